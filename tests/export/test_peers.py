"""Networks in the libraries of others: checkpoints in RSL-RL and Stable-Baselines3, a traced policy in LEAPP.

None is in the environment of `make test`. `make peers` makes one that has all, and runs these tests there.
"""

import json
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch
from c_programs import with_contract

from nnit_diffusers import MLP, export_network
from nnit_diffusers.architecture import ACTIVATIONS
from nnit_diffusers.export import rsl_rl_settings


# What the libraries themselves use that others have deprecated.
pytestmark = pytest.mark.filterwarnings("default")


def network_of(hidden_sizes, activation="tanh"):
    return MLP(5, hidden_sizes, 3, activation).eval().requires_grad_(False)


def is_installed(package):
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


needs_rsl_rl = pytest.mark.skipif(not is_installed("rsl-rl-lib"), reason="RSL-RL is not installed: `make peers`")
needs_sb3 = pytest.mark.skipif(
    not is_installed("stable-baselines3"), reason="Stable-Baselines3 is not installed: `make peers`"
)

needs_leapp = pytest.mark.skipif(not is_installed("leapp"), reason="LEAPP is not installed: `make peers`")


class Environments:
    """Four environments that give random observations, with the interface of RSL-RL's `VecEnv`."""

    num_envs, num_actions, max_episode_length, device, cfg = 4, 3, 10, "cpu", {}

    def __init__(self):
        self.episode_length_buf = torch.zeros(self.num_envs, dtype=torch.long)

    def get_observations(self):
        from tensordict import TensorDict

        return TensorDict({"policy": torch.randn(self.num_envs, 5)}, batch_size=[self.num_envs])

    def step(self, actions):
        rewards, dones = torch.ones(self.num_envs), torch.zeros(self.num_envs, dtype=torch.long)
        return self.get_observations(), rewards, dones, {"time_outs": dones.bool()}


def rsl_rl_runner(architecture, folder):
    """A runner with the settings that the export names."""
    from rsl_rl.runners import OnPolicyRunner

    settings = rsl_rl_settings(architecture)
    config = {"num_steps_per_env": 4, "save_interval": 50}
    if int(version("rsl-rl-lib").split(".")[0]) >= 4:
        distribution = {"class_name": "rsl_rl.modules.distribution:GaussianDistribution", "init_std": 1.0}
        config |= {
            "algorithm": {"class_name": "rsl_rl.algorithms:PPO"},
            "actor": {"class_name": "rsl_rl.models:MLPModel", **settings, "distribution_cfg": distribution},
            "critic": {"class_name": "rsl_rl.models:MLPModel", **settings},
            "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        }
    else:
        sizes = {f"{part}_hidden_dims": settings["hidden_dims"] for part in ("actor", "critic")}
        config |= {
            "algorithm": {"class_name": "PPO"},
            "policy": {"class_name": "ActorCritic", "activation": settings["activation"], **sizes},
            "obs_groups": {"policy": ["policy"], "critic": ["policy"]},
        }
    return OnPolicyRunner(Environments(), config, log_dir=str(folder), device="cpu")


@needs_rsl_rl
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden_sizes", [[8], [9, 7, 6]])
def test_an_rsl_rl_runner_loads_everything_acts_the_same_and_trains_on(tmp_path, hidden_sizes, activation):
    network, contract = with_contract(network_of(hidden_sizes, activation))
    path = export_network(network, tmp_path / "model_0.pt", "rsl-rl")
    runner = rsl_rl_runner(network.architecture, tmp_path)
    infos = runner.load(str(path))  # strict: every tensor of actor, critic and optimiser
    assert infos["nnit_settings"] == rsl_rl_settings(network.architecture)
    assert json.loads(infos["nnit_contract"]) == contract
    observations = runner.env.get_observations()
    with torch.no_grad():
        actions = runner.get_inference_policy()(observations)
    assert torch.equal(actions, network(observations["policy"]))
    runner.learn(1)
    assert runner.current_learning_iteration >= 0


@needs_sb3
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden_sizes", [[8], [9, 7, 6]])
def test_ppo_of_stable_baselines3_loads_it_and_predicts_the_clipped_outputs(tmp_path, hidden_sizes, activation):
    from stable_baselines3 import PPO

    network, (low, high) = network_of(hidden_sizes, activation), ([-0.1, -2, -0.2], [0.1, 0.2, 2])
    path = export_network(network, tmp_path / "policy.zip", "sb3", clip_actions=(low, high))
    model = PPO.load(path)
    observations = torch.randn(50, 5)
    actions, _ = model.predict(observations.numpy(), deterministic=True)
    expected = network(observations).clamp(torch.tensor(low), torch.tensor(high))
    torch.testing.assert_close(torch.from_numpy(actions), expected)
    assert (expected != network(observations)).any()
    # the raw outputs are the means of its distribution
    means = model.policy.get_distribution(observations).distribution.mean
    torch.testing.assert_close(means, network(observations))
    assert not model.policy.log_std.any()


@needs_sb3
def test_ppo_of_stable_baselines3_trains_on_in_an_environment_of_these_spaces(tmp_path):
    import gymnasium
    from stable_baselines3 import PPO

    class Random(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (5,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)

        def reset(self, *, seed=None, options=None):
            return np.ones(5, np.float32), {}

        def step(self, action):
            reward = float(self.np_random.random())
            return self.np_random.random(5, np.float32), reward, False, False, {}

    network, _ = with_contract(network_of([9, 7]))
    path = export_network(network, tmp_path / "policy.zip", "sb3")
    model = PPO.load(path, env=Random(), n_steps=8, batch_size=4, n_epochs=1)
    before = model.policy.action_net.weight.clone()
    model.learn(8)
    assert not torch.equal(model.policy.action_net.weight, before)
    # the seed of the export was not the user's
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    export_network(network, path, "sb3")
    assert torch.equal(torch.rand(3), expected)


@needs_leapp
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_leapp_exports_a_network_that_acts_the_same_and_is_read_back(tmp_path, activation):
    import leapp

    network = network_of([9, 7], activation)
    leapp.start(name="pipeline", save_path=str(tmp_path))
    observations = leapp.annotate.input_tensors("policy", {"observations": torch.randn(1, 5)})
    leapp.annotate.output_tensors("policy", {"actions": network(observations)}, export_with="onnx")
    leapp.stop()
    leapp.compile_graph(visualize=False)

    folder, observation = tmp_path / "pipeline", torch.randn(1, 5)
    pipeline = leapp.InferenceManager(str(folder / "pipeline.yaml"))
    actions = pipeline({"policy/observations": observation})["policy/actions"]
    torch.testing.assert_close(actions, network(observation), rtol=0, atol=1e-5)
    read = MLP.from_checkpoint(folder / "policy.onnx")
    assert read.architecture == network.architecture
    assert all(torch.equal(read.state_dict()[name], value) for name, value in network.state_dict().items())
