"""Networks trained one by one, without a generator: what generated ones are compared with."""

from __future__ import annotations

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup

from ..architecture import MLPArchitecture
from ..networks import MLP, fold_observation_statistics
from ..tasks.base import Task
from .scoring import evaluate


# Points of a training run at which the network is scored on validation data, so that the best of them is kept.
NUM_VALIDATIONS = 5


def train_directly(
    task: Task,
    architecture: MLPArchitecture,
    *,
    num_steps: int = 2000,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    seed: int = 0,
    num_episodes: int | None = None,
) -> MLP:
    """Trains one network with Adam and cosine decay, and returns it as it was when it scored best on validation data.

    Parameters:
        task (`Task`): The task, with its training data.
        architecture (`MLPArchitecture`): Shape of the network.
        num_steps (`int`, defaults to 2000): Optimisation steps.
        batch_size (`int`, defaults to 128): Samples per step.
        learning_rate (`float`, defaults to 3e-3): Peak learning rate.
        seed (`int`, defaults to 0): Seed of the initial weights and of the batches.
        num_episodes (`int`, *optional*): Validation episodes or samples; the task's own number by default.

    Returns:
        `MLP`: A network that takes raw inputs.
    """
    # initial weights, without a change of torch's own random state
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MLP.from_architecture(architecture)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, num_steps)
    generator, best = torch.Generator().manual_seed(seed), None
    mean, std = task.observation_mean, task.observation_std
    validated = {num_steps * number // NUM_VALIDATIONS for number in range(1, NUM_VALIDATIONS + 1)}
    for step in range(1, num_steps + 1):
        # one step on standardised inputs
        inputs, targets = task.training_batch(batch_size, generator)
        loss = task.loss(network((inputs - mean) / std)[None], targets).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step not in validated:
            continue
        # fold the standardisation into the first layer, and keep the network if it is the best so far
        folded = fold_observation_statistics(network.state_dict(), mean.tolist(), std.tolist())
        candidate = MLP.from_architecture(architecture, {name: tensor.clone() for name, tensor in folded.items()})
        (result,) = evaluate([candidate], task.for_screening(), num_episodes, split="validation", progress_bar=False)
        if best is None or result.score >= best[0]:
            best = result.score, candidate
    if best is None:
        raise ValueError(f"`num_steps` must be 1 or more, but received {num_steps}.")
    return best[1].eval()
