"""DAgger: generated policies are run, and the expert's actions in their states join the demonstrations.

Where there are several tasks, those in which the policies of the last round failed get more policies.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save

from ..models.graph_hypernetwork import GraphHyperNetwork
from ..models.nested_mlp import NestedMLP
from ..tasks.imitation import ImitationTask, read_demonstrations
from ..tasks.multi import MultiTask
from ..writing import write_bytes


# Episodes that every task is taken to have had before its first one, half of them failures: the weight of the unknown.
_PRIOR_EPISODES = 4
# Share of the policies that is spread evenly over tasks, whatever their failures.
_EVEN_SHARE = 0.3
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


def collect_round_of_tasks(
    task: MultiTask, model: GraphHyperNetwork, path: Path, num_policies: int, seed: int, generator: torch.Generator
) -> None:
    """Writes a round of DAgger of several tasks, with an episode of each policy; see [`collect_round`].

    The file of the round before, if there is one, has how often each task failed.
    """
    if path.exists():
        return
    earlier = [file for file in list_rounds(path.parent) if step_of(file) < step_of(path)]
    labels = share_policies(max(earlier, key=step_of, default=None), len(task.task_names), num_policies)
    # the smallest architectures of a larger pool, in a new order, so that every task gets some of each size
    drawn = task.regions.sample("seen", POOL * num_policies, generator)
    smallest = sorted(drawn, key=lambda architecture: architecture.num_parameters)[:num_policies]
    architectures = [smallest[index] for index in torch.randperm(num_policies, generator=generator).tolist()]
    policies = model.generate(architectures, generator=generator, task_labels=torch.tensor(labels))
    collected = task.collect(policies, labels, seed=seed)
    tensors = {
        "observations": collected.observations.contiguous(),
        "actions": collected.actions.contiguous(),
        "task_labels": collected.labels,
        "episode_labels": torch.tensor(labels),
        "succeeded": collected.succeeded,
    }
    write_bytes(path, save(tensors))


def step_of(path: Path) -> int:
    """The step after which the round in a file was collected; see [`round_path`]."""
    return int(path.stem.rpartition("-")[2])


def share_policies(earlier: Path | None, num_tasks: int, num_policies: int) -> list[int]:
    """Label of the task of every policy of a round: the more failures in the earlier round, the more policies."""
    failures, episodes = (
        torch.full((num_tasks,), _PRIOR_EPISODES / 2),
        torch.full((num_tasks,), float(_PRIOR_EPISODES)),
    )
    if earlier is not None:
        tensors = load_file(earlier)
        labels = tensors["episode_labels"]
        failures += torch.bincount(labels, weights=(~tensors["succeeded"]).float(), minlength=num_tasks)
        episodes += torch.bincount(labels, minlength=num_tasks)
    rates = failures / episodes
    shares = _EVEN_SHARE / num_tasks + (1 - _EVEN_SHARE) * rates / rates.sum()
    # integers that add up: each policy goes to the task that is furthest below its share
    labels_of, counts = [], torch.zeros(num_tasks)
    for number in range(1, num_policies + 1):
        label = int((shares * number - counts).argmax())
        counts[label] += 1
        labels_of.append(label)
    return labels_of


def add_round(task: ImitationTask | MultiTask, path: Path) -> int:
    """Adds a round to the demonstrations and returns its number of states.

    Raises:
        `ValueError`: If the file is missing.
    """
    if not path.exists():
        raise ValueError(f"DAgger round {str(path)!r} must exist to resume this training run, but it is missing.")
    observations, actions = read_demonstrations(path)
    if isinstance(task, MultiTask):
        task.add_demonstrations(observations, actions, load_file(path)["task_labels"])
    else:
        task.add_demonstrations(observations, actions)
    return len(observations)
