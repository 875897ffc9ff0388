"""The folder of a LeRobot policy, as far as it can be tested without LeRobot."""

import json

import pytest
import torch
from safetensors.torch import load_file

from nnit_diffusers import MLP, export_network
from nnit_diffusers.architecture import ACTIVATIONS


FILES = {"config.json", "model.safetensors", "policy_preprocessor.json", "policy_postprocessor.json"}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_config_and_weights_are_those_of_the_network(tmp_path, activation):
    network = MLP(42, [48, 40], 8, activation)
    folder = export_network(network, tmp_path / "policy", "lerobot")
    assert {path.name for path in folder.iterdir()} == FILES
    config = json.loads((folder / "config.json").read_text())
    assert config["type"] == "nnit_mlp"
    (state,), (action,) = config["input_features"].items(), config["output_features"].items()
    assert state == ("observation.state", {"type": "STATE", "shape": [42]})
    assert action == ("action", {"type": "ACTION", "shape": [8]})

    sizes = (state[1]["shape"][0], config["hidden_sizes"], action[1]["shape"][0])
    weights = load_file(folder / "model.safetensors")
    loaded = MLP(*sizes, config["activation"])
    loaded.load_state_dict({key.removeprefix("network."): tensor for key, tensor in weights.items()}, strict=True)
    assert torch.equal(loaded(torch.ones(3, 42)), network(torch.ones(3, 42)))


def test_nothing_is_normalised_before_or_after_the_network(tmp_path):
    folder = export_network(MLP(42, [48], 8), tmp_path / "policy", "lerobot")
    steps = {}
    for name in ("policy_preprocessor", "policy_postprocessor"):
        pipeline = json.loads((folder / f"{name}.json").read_text())
        assert pipeline["name"] == name
        steps[name] = [step["registry_name"] for step in pipeline["steps"]]
    assert steps == {
        # `lerobot-eval` sets arguments of the first and the last, and refuses a pipeline without them.
        "policy_preprocessor": ["rename_observations_processor", "to_batch_processor", "device_processor"],
        "policy_postprocessor": ["device_processor"],
    }


def test_a_folder_is_replaced_completely(tmp_path):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "old.json").write_text("{}")
    folder = export_network(MLP(42, [48], 8), tmp_path / "policy", "lerobot")
    assert {path.name for path in folder.iterdir()} == FILES
