import threading
from itertools import islice

import pytest
import torch

from nnit_diffusers.training.randomness import prefetch, step_generator


# Randomness of a step


def test_randomness_of_a_step_depends_only_on_its_arguments():
    drawn = {}
    for arguments in [(0, 0), (7, 0), (0, 1), (0, 1, 1), (0, 0, 1), (0, 0, 0, 1), (0, 1, 0, 1), (0, 1000), (7, 999)]:
        torch.rand(3)
        numbers = torch.rand(4, generator=step_generator(*arguments))
        assert torch.equal(numbers, torch.rand(4, generator=step_generator(*arguments)))
        drawn[arguments] = tuple(numbers.tolist())
    assert len(set(drawn.values())) == len(drawn)


def test_neighbouring_steps_are_unrelated():
    first, second = (
        torch.stack([torch.randn(8, generator=step_generator(0, step)) for step in range(start, start + 500)])
        for start in (0, 1)
    )
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.05
    assert abs(first.mean()) < 0.05


# Prefetching


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_prefetched_results_come_in_order(num_workers):
    assert list(prefetch(lambda number: number**2, range(5, 12), num_workers)) == [n**2 for n in range(5, 12)]
    assert list(prefetch(lambda number: number**2, range(5, 6), num_workers)) == [25]
    assert list(prefetch(lambda number: number**2, [], num_workers)) == []


def test_all_requested_threads_prefetch():
    together = threading.Barrier(3, timeout=60)

    def prepare(number):
        together.wait()
        return number

    assert list(prefetch(prepare, range(6), num_workers=3)) == list(range(6))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_thread_prefetches_at_most_one_result(num_workers):
    prepared = []
    results = prefetch(lambda number: prepared.append(number), range(100), num_workers)
    list(islice(results, 5))
    results.close()
    assert sorted(prepared) == list(range(5 + num_workers))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_is_raised_in_the_order_of_the_results(num_workers):
    results = prefetch(lambda number: 1 / (3 - number), range(9), num_workers)
    assert [next(results) for _ in range(3)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
