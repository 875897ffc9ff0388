"""Trains a teacher for a MuJoCo environment with Stable-Baselines3's PPO, and writes it as one ONNX file.

    pip install stable-baselines3 nnit-diffusers[mujoco,onnx]
    python examples/train_teacher.py --output_path teacher.onnx
    nnit train --env HalfCheetah-v5 --teacher teacher.onnx --output my-runner

The file holds the mean of the policy and the normalisation of its observations. Beside it, `teacher.json` records the
command and the returns of 100 episodes. The settings are those of RL Baselines3 Zoo for HalfCheetah. The same command
resumes an interrupted run from its last checkpoint, with a new episode.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import tyro

from nnit_diffusers import MLP, MLPArchitecture
from nnit_diffusers.evaluation import mean_interval
from nnit_diffusers.export import export_network
from nnit_diffusers.folding import fold_observation_statistics
from nnit_diffusers.provenance import provenance
from nnit_diffusers.tasks.gymnasium import GymnasiumTask
from nnit_diffusers.tasks.simulation.teachers import load_teacher
from nnit_diffusers.writing import write_json


PPO_SETTINGS = {
    "batch_size": 64,
    "n_steps": 512,
    "gamma": 0.98,
    "learning_rate": 2.0633e-05,
    "ent_coef": 0.000401762,
    "clip_range": 0.1,
    "n_epochs": 20,
    "gae_lambda": 0.92,
    "max_grad_norm": 0.8,
    "vf_coef": 0.58096,
}
HIDDEN = [256, 256]


@dataclass
class Arguments:
    """Trains a teacher, and evaluates it."""

    env_id: str = "HalfCheetah-v5"
    """Environment of Gymnasium with continuous actions."""
    output_path: str = "teacher.onnx"
    """ONNX file to write."""
    work_dir: str = "outputs/teacher"
    """Folder of the checkpoint."""
    total_steps: int = 460_000
    """Steps of the environment."""
    checkpointing_steps: int = 20_000
    """Steps between checkpoints."""
    seed: int = 0
    """Seed of the policy and the environment."""
    num_episodes: int = 100
    """Episodes of the evaluation, of the test split."""


def train(arguments: Arguments) -> tuple[Any, Any, float, int]:
    """Trains PPO on normalised observations and rewards; the policy, statistics of observations, and steps."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    folder = Path(arguments.work_dir)
    environments = DummyVecEnv([lambda: gymnasium.make(arguments.env_id)])
    if (folder / "model.zip").exists():
        environments = VecNormalize.load(str(folder / "statistics.pkl"), environments)
        model = PPO.load(folder / "model", environments)
    else:
        environments = VecNormalize(environments, gamma=PPO_SETTINGS["gamma"])
        policy = {"log_std_init": -2, "ortho_init": False, "activation_fn": torch.nn.ReLU}
        policy["net_arch"] = {"pi": HIDDEN, "vf": HIDDEN}
        model = PPO("MlpPolicy", environments, seed=arguments.seed, device="cpu", policy_kwargs=policy, **PPO_SETTINGS)
    while model.num_timesteps < arguments.total_steps:
        model.learn(arguments.checkpointing_steps, reset_num_timesteps=False)
        model.save(folder / "model")
        environments.save(str(folder / "statistics.pkl"))
    return model.policy, environments.obs_rms, environments.epsilon, model.num_timesteps


def as_network(policy: Any, statistics: Any, epsilon: float) -> MLP:
    """The mean action of a policy for raw observations."""
    layers = [layer for layer in policy.mlp_extractor.policy_net if isinstance(layer, torch.nn.Linear)]
    layers.append(policy.action_net)
    tensors: dict[str, torch.Tensor] = {}
    for index, layer in enumerate(layers):
        tensors |= {f"{2 * index}.weight": layer.weight.detach(), f"{2 * index}.bias": layer.bias.detach()}
    folded = fold_observation_statistics(tensors, statistics.mean, np.sqrt(statistics.var + epsilon))
    architecture = MLPArchitecture(layers[0].in_features, tuple(HIDDEN), layers[-1].out_features)
    return MLP.from_architecture(architecture, folded)


def main(arguments: Arguments) -> None:
    torch.set_num_threads(1)
    policy, statistics, epsilon, num_steps = train(arguments)
    export_network(as_network(policy, statistics, epsilon), arguments.output_path, "onnx")
    # the file itself is evaluated
    task = GymnasiumTask(arguments.env_id, teacher=load_teacher(arguments.output_path), teacher_return=0.0)
    episodes = task.demonstrate(range(arguments.num_episodes), split="test", noise=False)
    returns = [float(episode.episode_return or 0.0) for episode in episodes]
    low, high = mean_interval(returns)
    report = {
        "arguments": asdict(arguments),
        "ppo": {**PPO_SETTINGS, "hidden_sizes": HIDDEN},
        "num_steps": num_steps,
        "mean_return": float(np.mean(returns)),
        "interval": [low, high],
        "interval_method": "student_t",
        "returns": returns,
        "provenance": provenance(),
    }
    write_json(Path(arguments.output_path).with_suffix(".json"), report)
    print(f"Mean return {report['mean_return']:.0f} ({low:.0f} to {high:.0f}) of {len(returns)} episodes.")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
