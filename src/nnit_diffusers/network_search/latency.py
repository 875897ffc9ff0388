"""How long networks take to answer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ..networks import MLP


_NUM_WARMUP_CALLS = 20


@torch.inference_mode()
def measure_latencies(networks: Sequence[MLP], num_rounds: int = 10, calls_per_round: int = 100) -> list[float]:
    """Median time of one call with one input, on one thread of this machine's CPU, as a controller would make it.

    The networks take turns, so that what else the machine does meets all of them alike.

    Parameters:
        networks (`Sequence[MLP]`): Networks on the CPU.
        num_rounds (`int`, defaults to 10): Turns of each.
        calls_per_round (`int`, defaults to 100): Calls in a turn, each timed by itself, after a few that are not.

    Returns:
        `list[float]`: Microseconds, for each network over all of its calls.
    """
    observations = [torch.zeros(1, network.architecture.in_features) for network in networks]
    durations: list[list[int]] = [[] for _ in networks]
    with _one_thread():
        for _ in range(num_rounds):
            for network, observation, of_network in zip(networks, observations, durations):
                for call in range(_NUM_WARMUP_CALLS + calls_per_round):
                    start = time.perf_counter_ns()
                    network(observation)
                    end = time.perf_counter_ns()
                    if call >= _NUM_WARMUP_CALLS:
                        of_network.append(end - start)
    return [statistics.median(of_network) / 1000 for of_network in durations]


@contextmanager
def _one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
