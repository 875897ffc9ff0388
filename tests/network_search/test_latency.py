import torch

from nnit_diffusers import MLP
from nnit_diffusers.network_search import measure_latencies


def test_a_larger_network_takes_longer_and_the_number_of_threads_is_restored():
    torch.set_num_threads(2)
    try:
        small, large, again = measure_latencies([MLP(5, [4], 3), MLP(5, [1500, 1500], 3), MLP(5, [4], 3)], 5, 20)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert 0 < small < large / 2
    assert again < large / 2
