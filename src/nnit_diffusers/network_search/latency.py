"""Latency of networks on the CPU."""

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
    """Median latency of one call with one input on one CPU thread, as in a controller.

    The networks take turns, so that other load on the machine affects all of them alike.

    Parameters:
        networks (`Sequence[MLP]`): Networks on the CPU.
        num_rounds (`int`, defaults to 10): Turns of each network.
        calls_per_round (`int`, defaults to 100): Timed calls in a turn, after a few warm-up calls.

    Returns:
        `list[float]`: Median latency of each network over all its calls, in microseconds.
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
