"""What is exported and read back: the same weights bit for bit, the same architecture and the same contract."""

import json

import pytest
import torch
from c_programs import with_contract
from test_export_formats import options_of

from nnit_diffusers import EXPORT_FORMATS, MLP, export_network
from nnit_diffusers.checkpoints import ActivationIsRecorded


READABLE = [name for name in EXPORT_FORMATS if name != "c"]
# The state dict of a PPO script, whose activation is part of its code.
RECORD_NONE = ("maniskill-ppo", "cleanrl")


def exported(tmp_path, format, activation="relu", low=-1.0, high=1.0):
    """A network with a contract, and the file that it is exported to, without a clip."""
    torch.manual_seed(0)
    network, contract = with_contract(MLP(5, [9, 7], 3, activation), low, high)
    options = {name: value for name, value in options_of(format).items() if name != "clip_actions"}
    path = tmp_path / f"network{EXPORT_FORMATS[format].suffix}"
    export_network(network, path, format, **options)
    return network, contract, path


@pytest.mark.parametrize("activation", ["relu", "tanh", "elu", "silu", "gelu", "leaky_relu"])
@pytest.mark.parametrize("format", READABLE)
def test_a_network_that_is_exported_and_read_back_is_bit_equal(tmp_path, format, activation):
    network, contract, path = exported(tmp_path, format, activation)
    read = MLP.from_checkpoint(path, activation=activation if format in RECORD_NONE else None)
    assert read.architecture == network.architecture
    assert read.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in read.state_dict().items())
    assert read.contract is not None and read.contract.to_dict() == contract


@pytest.mark.parametrize("format", [name for name in READABLE if name not in RECORD_NONE])
def test_an_activation_that_contradicts_the_file_is_refused(tmp_path, format):
    *_, path = exported(tmp_path, format)
    with pytest.raises(ActivationIsRecorded, match="relu"):
        MLP.from_checkpoint(path, activation="elu")


def test_a_contract_that_does_not_fit_the_network_beside_it_is_refused(tmp_path):
    *_, path = exported(tmp_path, "maniskill-ppo")
    beside = path.with_name(f"{path.name}.contract.json")
    contract = json.loads(beside.read_text())
    contract["actions"][0] |= {"shape": [2], "clip": contract["actions"][0]["clip"][:2]}
    beside.write_text(json.dumps(contract))
    with pytest.raises(ValueError, match="must describe 3 numbers, but describes 2") as refusal:
        MLP.from_checkpoint(path, activation="relu")
    assert "\n" not in str(refusal.value)
    beside.write_text("{")
    with pytest.raises(ValueError, match="must hold the contract of a network"):
        MLP.from_checkpoint(path, activation="relu")


def test_a_file_without_a_contract_gives_a_network_without_one(tmp_path):
    for format in ("safetensors", "onnx", "torch-export", "lerobot", "rsl-rl"):
        path = export_network(MLP(5, [9], 3), tmp_path / f"plain{EXPORT_FORMATS[format].suffix or '-folder'}", format)
        assert MLP.from_checkpoint(path).contract is None
