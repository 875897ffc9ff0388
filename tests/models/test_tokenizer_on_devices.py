"""Tokenization on an accelerator: nothing leaves the device, and float32 is precise enough.

The meta device stands for an accelerator. It computes shapes and types only, and an attempt to copy a tensor from it
raises an error.
"""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nnit_diffusers import MLP, NNiTArchitectureScheduler, WeightPatchTokenizer
from nnit_diffusers.network_batch import stack_state_dicts
from nnit_diffusers.training.transformer_losses import add_noise, function_errors


SIZES = ([20, 9], [7], [20, 9], [3, 4, 5], [7])
MEAN, STD = [0.5, -20.0, 3.0, 0.0, 1 / 3], [2.0, 0.1, 30.0, 1.0, math.pi]
TOKENIZER = WeightPatchTokenizer(
    5, 3, patch_size=4, weight_scale=[0.3, 0.7, 2.0], observation_mean=MEAN, observation_std=STD
)


class Float64Recorder(TorchDispatchMode):
    """Collects the operations whose result is a float64 tensor of a device other than the CPU."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64 and result.device.type != "cpu":
            self.operations.append(str(function))
        return result


def networks_on(device):
    torch.manual_seed(0)
    networks = [MLP(5, sizes, 3) for sizes in SIZES]
    architectures = [network.architecture for network in networks]
    return [{key: t.to(device) for key, t in network.state_dict().items()} for network in networks], architectures


@pytest.mark.parametrize("standardised", [True, False])
def test_networks_are_encoded_noised_and_decoded_on_their_device(standardised):
    with Float64Recorder() as recorder:
        batch = TOKENIZER.encode_state_dicts(*networks_on("meta"), standardised)
        tokens = torch.tensor([architecture.tokens(4) for architecture in batch.architectures])
        sigmas = torch.full((len(SIZES),), 0.5)
        noised = add_noise(batch, tokens, sigmas, NNiTArchitectureScheduler(), 0.5, torch.Generator().manual_seed(0))
        decoded = TOKENIZER.decode(noised.patches, batch.architectures)
        inputs = torch.zeros(6, 5, device="meta")
        errors = function_errors(noised.patches, batch.patches, batch.architectures, TOKENIZER, inputs)
    assert recorder.operations == []
    expected = TOKENIZER.encode_state_dicts(*networks_on("cpu"), standardised)
    for name in ("patches", "positions", "attention_mask", "element_mask", "architecture_tokens"):
        tensor, on_cpu = getattr(batch, name), getattr(expected, name)
        assert (tensor.device.type, tensor.shape, tensor.dtype) == ("meta", on_cpu.shape, on_cpu.dtype)
    noise = [value for name, value in vars(noised).items() if name != "clean" and value is not None]
    assert {value.device.type for value in noise} == {"meta"}
    assert {tensor.device.type for state_dict in decoded for tensor in state_dict.values()} == {"meta"}
    assert (errors.device.type, errors.shape) == ("meta", (len(SIZES),))


def test_float64_is_used_on_a_device_if_it_is_requested():
    with Float64Recorder() as recorder:
        batch = TOKENIZER.encode_state_dicts(*networks_on("meta"), dtype=torch.float64)
    assert batch.patches.dtype == torch.float64
    assert recorder.operations


@pytest.mark.parametrize("standardised", [True, False])
def test_float32_patches_differ_from_those_of_float64_by_rounding(standardised):
    for state_dict, architecture in zip(*networks_on("cpu")):
        single = stack_state_dicts([state_dict])
        double = {key: tensor.double() for key, tensor in single.items()}
        patches, expected = (TOKENIZER.encode_stacked(each, architecture, standardised) for each in (single, double))
        assert (patches.dtype, expected.dtype) == (torch.float32, torch.float64)
        torch.testing.assert_close(patches.double(), expected, rtol=1e-6, atol=1e-5)
        # and back; biases of the first layer carry the statistics, whose sum is large
        weights, exact = (
            TOKENIZER.decode_stacked(patches, architecture),
            TOKENIZER.decode_stacked(expected, architecture),
        )
        assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
        for key, tensor in weights.items():
            torch.testing.assert_close(tensor.double(), exact[key], rtol=1e-6, atol=2e-4 if key == "0.bias" else 1e-6)


def test_networks_keep_their_order_in_a_batch_of_several_architectures():
    state_dicts, architectures = networks_on("cpu")
    batch = TOKENIZER.encode_state_dicts(state_dicts, architectures)
    for index, (state_dict, architecture) in enumerate(zip(state_dicts, architectures)):
        alone = TOKENIZER.encode_state_dicts([state_dict], [architecture]).patches[0]
        assert torch.equal(batch.patches[index, : len(alone)], alone)
        assert not batch.patches[index, len(alone) :].any()
