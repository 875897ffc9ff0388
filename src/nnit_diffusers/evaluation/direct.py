"""Networks trained directly, without a generator: what generated ones are compared with.

Shape legend: K networks of one architecture, N samples, I/O input and output features of the task.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup

from ..architecture import MLPArchitecture
from ..folding import fold_observation_statistics, fold_output_statistics
from ..network_batch import batched_forward, stack_state_dicts
from ..networks import MLP
from ..tasks.base import Task
from .scoring import EvaluationResult, evaluate


# Points of a training run at which networks are scored on validation data, so that the best state of each is kept.
NUM_VALIDATIONS = 5


def train_directly(
    task: Task,
    architecture: MLPArchitecture,
    *,
    seeds: Sequence[int] = (0,),
    num_steps: int = 2000,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    num_episodes: int | None = None,
) -> list[MLP]:
    """Trains networks with Adam and cosine decay, and returns each as it was when it scored best on validation data.

    The networks do not influence each other: each has its own initial weights and batches. They run as one batch,
    which is faster.

    Parameters:
        task (`Task`): The task, with its training data.
        architecture (`MLPArchitecture`): Shape of the networks.
        seeds (`Sequence[int]`, defaults to `(0,)`): Seed of each network, of its initial weights and its batches.
        num_steps (`int`, defaults to 2000): Optimisation steps.
        batch_size (`int`, defaults to 128): Samples per step.
        learning_rate (`float`, defaults to 3e-3): Peak learning rate.
        num_episodes (`int`, *optional*): Validation episodes or samples; the task's own number by default.

    Returns:
        `list[MLP]`: A network for each seed, which takes raw inputs.

    Raises:
        `ValueError`: If `num_steps` is not positive.
    """
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be 1 or more, but received {num_steps}.")
    weights = _initial_weights(architecture, seeds)
    optimizer = torch.optim.Adam(weights.values(), lr=learning_rate)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, num_steps)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    best: list[tuple[EvaluationResult, MLP] | None] = [None] * len(seeds)
    validated = {max(1, num_steps * number // NUM_VALIDATIONS) for number in range(1, NUM_VALIDATIONS + 1)}
    for step in range(1, num_steps + 1):
        # one step on standardised inputs
        inputs, targets = zip(*(task.training_batch(batch_size, generator) for generator in generators))
        inputs_KNI = (torch.stack(inputs) - task.observation_mean) / task.observation_std
        outputs_KNO = task.raw_outputs(batched_forward(weights, inputs_KNI, architecture.activation))
        losses = [task.loss(outputs_KNO[k : k + 1], target).sum() for k, target in enumerate(targets)]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        schedule.step()
        # keep those that are the best of their training run so far
        if step in validated:
            networks = _networks(task, architecture, weights)
            results = evaluate(networks, task.for_screening(), num_episodes, split="validation", progress_bar=False)
            for k, (result, network) in enumerate(zip(results, networks)):
                previous = best[k]
                if previous is None or result.score >= previous[0].score:
                    best[k] = result, network
    return [kept[1] for kept in best if kept is not None]


def _initial_weights(architecture: MLPArchitecture, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
    """torch's own initialisation of each network, stacked; torch's random state stays as it is."""
    state_dicts = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            state_dicts.append(MLP.from_architecture(architecture).state_dict())
    return {name: tensor.requires_grad_() for name, tensor in stack_state_dicts(state_dicts).items()}


@torch.no_grad()
def _networks(task: Task, architecture: MLPArchitecture, weights: dict[str, torch.Tensor]) -> list[MLP]:
    """The networks as they are now, for raw inputs and outputs: the statistics are folded into their layers."""
    mean, std = task.observation_mean.tolist(), task.observation_std.tolist()
    networks = []
    for k in range(len(weights["0.weight"])):
        folded = fold_observation_statistics({name: tensor[k] for name, tensor in weights.items()}, mean, std)
        if task.output_statistics is not None:
            folded = fold_output_statistics(folded, *task.output_statistics)
        copied = {name: tensor.detach().clone() for name, tensor in folded.items()}
        networks.append(MLP.from_architecture(architecture, copied).eval())
    return networks
