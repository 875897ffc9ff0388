"""DAgger for a GHN: policies that it writes act, and what the expert would do in their states is learned as well."""

from pathlib import Path

import torch
from safetensors.torch import save

from nnit_diffusers import GraphHyperNetwork
from nnit_diffusers.tasks.imitation import ImitationTask, read_demonstrations
from nnit_diffusers.utils import write_bytes


# Of so many times the networks wanted those with the fewest parameters act: the small ones err the most.
POOL = 2


def round_path(output_dir: Path, step: int) -> Path:
    """Where the round after a step is kept, for a training that resumes."""
    return output_dir / f"dagger-{step}.safetensors"


def collect_round(
    task: ImitationTask,
    ghn: GraphHyperNetwork,
    path: Path,
    num_policies: int,
    num_episodes: int,
    seed: int,
    generator: torch.Generator,
) -> None:
    """Writes a round of DAgger: the states of policies of the seen region, with the expert's actions.

    Parameters:
        path (`Path`): The file; one that is there already, of a training that was interrupted, stays.
        num_policies (`int`): Policies that act, each of an architecture and a latent of its own.
        num_episodes (`int`): Episodes of each.
        seed (`int`): Chooses the episodes.
        generator (`torch.Generator`): Source of architectures and latents.
    """
    if path.exists():
        return
    drawn = task.regions.sample("seen", POOL * num_policies, generator)
    architectures = sorted(drawn, key=lambda architecture: architecture.num_parameters)[:num_policies]
    policies = ghn.generate(architectures, generator=generator)
    observations, actions = task.collect(policies, seed=seed, num_episodes=num_episodes)
    write_bytes(path, save({"observations": observations.contiguous(), "actions": actions.contiguous()}))


def add_round(task: ImitationTask, path: Path) -> int:
    """Adds a round to the demonstrations; returns how many states it has.

    Raises:
        `ValueError`: If the file is gone.
    """
    if not path.exists():
        raise ValueError(f"{str(path)!r}, the round of DAgger that the training had, must be there to resume it.")
    observations, actions = read_demonstrations(path)
    task.add_demonstrations(observations, actions)
    return len(observations)
