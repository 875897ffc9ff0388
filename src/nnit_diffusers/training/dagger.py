"""DAgger: generated policies are run, and the expert's actions in their states join the demonstrations."""

from pathlib import Path

import torch
from safetensors.torch import save

from ..models.graph_hypernetwork import GraphHyperNetwork
from ..models.nested_mlp import NestedMLP
from ..tasks.imitation import ImitationTask, read_demonstrations
from ..writing import write_bytes


# Architectures drawn for each policy. The smallest of the pool are run, since small networks fail most often.
POOL = 2


def round_path(output_dir: Path, step: int) -> Path:
    """File of the round after a step, which a resumed training run reads again."""
    return output_dir / f"dagger-{step}.safetensors"


def list_rounds(output_dir: Path) -> list[Path]:
    """Files of all rounds in the folder of a training run."""
    return sorted(output_dir.glob("dagger-*.safetensors"))


def collect_round(
    task: ImitationTask,
    model: GraphHyperNetwork | NestedMLP,
    path: Path,
    num_policies: int,
    num_episodes: int,
    seed: int,
    generator: torch.Generator,
) -> None:
    """Writes a round of DAgger: the states that policies of the seen region visit, with the expert's actions.

    Parameters:
        path (`Path`): The file to write. An existing file, left by an interrupted training run, is kept.
        num_policies (`int`): Policies to run, each with its own architecture and latent.
        num_episodes (`int`): Episodes of each policy.
        seed (`int`): Seed of the episodes.
        generator (`torch.Generator`): Generator of architectures and latents.
    """
    if path.exists():
        return
    # the smallest architectures of a larger pool
    drawn = task.regions.sample("seen", POOL * num_policies, generator)
    architectures = sorted(drawn, key=lambda architecture: architecture.num_parameters)[:num_policies]
    # run their policies and label the states
    policies = model.generate(architectures, generator=generator)
    observations, actions = task.collect(policies, seed=seed, num_episodes=num_episodes)
    write_bytes(path, save({"observations": observations.contiguous(), "actions": actions.contiguous()}))


def add_round(task: ImitationTask, path: Path) -> int:
    """Adds a round to the demonstrations and returns its number of states.

    Raises:
        `ValueError`: If the file is missing.
    """
    if not path.exists():
        raise ValueError(f"DAgger round {str(path)!r} must exist to resume this training run, but it is missing.")
    observations, actions = read_demonstrations(path)
    task.add_demonstrations(observations, actions)
    return len(observations)
