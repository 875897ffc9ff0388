"""LeRobot loads and runs an exported policy, if LeRobot is installed.

LeRobot needs Python 3.12 and torch below 2.12, so the environment of `make test` does not have it.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nnit_diffusers import MLP, export_network
from nnit_diffusers.tasks.maniskill import NoVulkanDeviceError, check_simulator
from nnit_diffusers.tasks.maniskill.environments import ManiSkillEnvironment, make_environment
from nnit_diffusers.tasks.simulation.portable_networks import network_policy
from nnit_diffusers.tasks.simulation.rollouts import run_episodes
from nnit_diffusers.tasks.simulation.seeds import episode_seeds


pytest.importorskip("lerobot", reason="LeRobot is not installed: it needs Python 3.12 and torch below 2.12")
pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of LeRobot itself

PLUGIN = "nnit_diffusers.integrations.lerobot"
# `lerobot-eval` sets these in every pipeline that it loads.
OVERRIDES = {"device_processor": {"device": "cpu"}, "rename_observations_processor": {"rename_map": {}}}


@pytest.fixture
def network():
    return MLP(42, [48, 40], 8).eval().requires_grad_(False)


@pytest.fixture
def folder(network, tmp_path):
    return export_network(network, tmp_path / "policy", "lerobot")


def load(folder):
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies import make_policy

    from nnit_diffusers.integrations.lerobot import ManiSkillStateEnvConfig

    config = PreTrainedConfig.from_pretrained(folder)
    config.pretrained_path = folder
    return make_policy(cfg=config, env_cfg=ManiSkillStateEnvConfig())


def test_a_loaded_policy_acts_as_the_network(network, folder):
    from lerobot.policies import make_pre_post_processors

    policy = load(folder)
    preprocess, postprocess = make_pre_post_processors(policy.config, str(folder), preprocessor_overrides=OVERRIDES)
    states = torch.randn(3, 42)
    batch = preprocess({"observation.state": states, "task": ["pickcube"] * 3})
    assert torch.equal(postprocess(policy.select_action(batch)), network(states))
    assert torch.equal(policy.predict_action_chunk(batch), network(states)[:, None])
    loss, _ = policy.forward({**batch, "action": network(states) + 2})
    assert loss.item() == pytest.approx(4)


def test_the_files_are_the_same_as_those_written_by_lerobot(folder, tmp_path):
    from lerobot.policies import make_pre_post_processors

    policy, again = load(folder), tmp_path / "again"
    policy.save_pretrained(again)
    for name, pipeline in zip(
        ("policy_preprocessor", "policy_postprocessor"), make_pre_post_processors(policy.config)
    ):
        pipeline.save_pretrained(again, config_filename=f"{name}.json")
        assert json.loads((again / f"{name}.json").read_text()) == json.loads((folder / f"{name}.json").read_text())
    ours, theirs = (json.loads((path / "config.json").read_text()) for path in (folder, again))
    # LeRobot also writes options that have their default value.
    assert ours == {name: theirs[name] for name in ours}
    weights, loaded = (load_file(path / "model.safetensors") for path in (folder, again))
    torch.testing.assert_close(loaded, weights, rtol=0, atol=0)


def test_incomplete_weights_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    weights.pop("network.4.bias")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match="network.4.bias"):
        load(folder)


def test_lerobot_eval_finds_the_same_success_as_our_rollouts(network, folder, tmp_path):
    try:
        check_simulator()
    except (ImportError, NoVulkanDeviceError) as error:
        pytest.skip(str(error))
    seeds = episode_seeds("test", 0, 2)
    options = {
        "policy.path": folder,
        "env.discover_packages_path": PLUGIN,
        "env.type": "maniskill_state",
        "env.task": "pickcube",
        "env.image_size": 64,
        "eval.n_episodes": 2,
        "eval.batch_size": 1,
        "seed": seeds[0],
        "output_dir": tmp_path / "eval",
    }
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_eval", *(f"--{k}={v}" for k, v in options.items())]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    found = json.loads((tmp_path / "eval" / "eval_info.json").read_text())["per_task"][0]["metrics"]

    environment = ManiSkillEnvironment(make_environment("PickCube-v1"))
    episodes = [run_episodes(environment, [seed], network_policy(network))[0] for seed in seeds]
    environment.close()
    assert found["successes"] == [episode.success_once for episode in episodes]
    for returned, episode in zip(found["sum_rewards"], episodes, strict=True):
        if not episode.success_once:  # `lerobot-eval` ends an episode at success
            np.testing.assert_allclose(returned, episode.episode_return, rtol=1e-5)
