"""Randomness of a training run: every step has generators of its own, so that a resumed run draws the same numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch


T = TypeVar("T")


def step_generator(seed: int, step: int, process_index: int = 0, stream: int = 0) -> torch.Generator:
    """Generator for all randomness of one training step on one process.

    It depends only on its arguments, so a resumed training run draws the same numbers as an uninterrupted one.

    Parameters:
        seed (`int`): Seed of the training run.
        step (`int`): Number of the step, or of the micro-step under gradient accumulation.
        process_index (`int`, defaults to 0): Index of the process in distributed training.
        stream (`int`, defaults to 0): Number of an independent generator within the step.
    """
    mixed = seed
    for part in (step, process_index, stream):
        # one round of SplitMix64, so that seeds of neighbouring steps are unrelated
        mixed = (mixed + part + 0x9E3779B97F4A7C15) & (2**64 - 1)
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        mixed ^= mixed >> 31
    return torch.Generator().manual_seed(mixed & (2**63 - 1))


def prefetch(prepare: Callable[[int], T], numbers: Iterable[int], num_workers: int) -> Iterator[T]:
    """Yields `prepare(number)` for every number in order, and computes results ahead in threads.

    Parameters:
        prepare (`Callable[[int], T]`): Called with each number, by several threads at once.
        numbers (`Iterable[int]`): Numbers in the order of the results.
        num_workers (`int`): Threads, each of which computes one result ahead; 0 computes each result on request.
    """
    if num_workers == 0:
        yield from map(prepare, numbers)
        return
    with ThreadPoolExecutor(num_workers) as pool:
        ahead: deque[Future[T]] = deque()
        for number in numbers:
            ahead.append(pool.submit(prepare, number))
            if len(ahead) > num_workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
