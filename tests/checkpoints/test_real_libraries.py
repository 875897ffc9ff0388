"""Checkpoints that Stable-Baselines3 and RSL-RL write act as their own policies do; skipped where they are missing."""

import numpy as np
import pytest
import torch

from nnit_diffusers import MLP


OBSERVATIONS = 3 * torch.randn(64, 5, generator=torch.Generator().manual_seed(0)) + 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("algorithm", "policy_kwargs", "options"),
    [
        ("PPO", {}, {"n_steps": 32, "batch_size": 32}),
        ("PPO", {"activation_fn": torch.nn.ELU, "net_arch": [16, 8]}, {"n_steps": 32, "batch_size": 32}),
        ("PPO", {"squash_output": True}, {"n_steps": 32, "batch_size": 32, "use_sde": True}),
        ("A2C", {}, {}),
        ("SAC", {"net_arch": [16]}, {"learning_starts": 10}),
        ("TD3", {"net_arch": [16]}, {"learning_starts": 10}),
    ],
)
def test_a_zip_of_stable_baselines_acts_as_its_policy(tmp_path, algorithm, policy_kwargs, options):
    library = pytest.importorskip("stable_baselines3")
    gymnasium = pytest.importorskip("gymnasium")
    environment = gymnasium.wrappers.RescaleAction(gymnasium.make("Pendulum-v1"), -1.0, 1.0)
    make = getattr(library, algorithm)
    model = make("MlpPolicy", environment, seed=0, device="cpu", policy_kwargs=policy_kwargs, **options)
    model.learn(32)
    model.save(tmp_path / "model.zip")
    observations = OBSERVATIONS[:, :3].numpy()
    expected, _ = model.predict(observations, deterministic=True)
    network = MLP.from_checkpoint(tmp_path / "model.zip")
    with torch.no_grad():
        found = network(torch.from_numpy(observations)).numpy()
    # Stable-Baselines3 clips to the action space
    np.testing.assert_allclose(found.clip(-1, 1), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_and_an_onnx_model_of_rsl_rl_act_as_its_model(tmp_path):
    """RSL-RL 4 and later: an `MLPModel` with its normaliser, and the exporter of its runner."""
    models = pytest.importorskip("rsl_rl.models")
    tensordict = pytest.importorskip("tensordict")

    def groups(values):
        return tensordict.TensorDict({"policy": values}, batch_size=[len(values)])

    torch.manual_seed(0)
    distribution = {"class_name": "GaussianDistribution"}
    model = models.MLPModel(
        groups(OBSERVATIONS), {"actor": ["policy"]}, "actor", 3, (16, 8), "elu", True, distribution
    ).train()
    for _ in range(3):
        model.update_normalization(groups(OBSERVATIONS + torch.randn(64, 5)))
    expected = model.eval()(groups(OBSERVATIONS)).detach()

    # as `OnPolicyRunner.save` and `OnPolicyRunner.export_policy_to_onnx` write them
    saved = {"actor_state_dict": model.state_dict(), "critic_state_dict": {}, "iter": 3, "infos": None}
    torch.save(saved, tmp_path / "model_3.pt")
    exported = model.as_onnx(verbose=False).eval()
    torch.onnx.export(exported, exported.get_dummy_inputs(), tmp_path / "policy.onnx", opset_version=18, verbose=False)
    for name in ("model_3.pt", "policy.onnx"):
        network = MLP.from_checkpoint(tmp_path / name)
        assert network.architecture.activation == "elu"
        with torch.no_grad():
            torch.testing.assert_close(network(OBSERVATIONS), expected, atol=1e-5, rtol=1e-5)
