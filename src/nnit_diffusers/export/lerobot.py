"""Export of a LeRobot policy."""

from __future__ import annotations

import json
from typing import Any

from safetensors.torch import save

from ..contract import CONTRACT_KEY
from ..networks import MLP
from .common import contract_json, exported_architecture, float32_state_dict


LEROBOT_PREPROCESSOR = "policy_preprocessor.json"
"""A file that identifies a folder of the format `lerobot`."""


def to_lerobot(network: MLP) -> dict[str, bytes]:
    """The files of a LeRobot policy, for `--policy.path` of its commands.

    LeRobot has no plain MLP policy, so `integrations/lerobot` adds the policy type `nnit_mlp`. It takes the raw state
    and returns one action; its processors only move tensors between devices. A contract is a file of its own,
    `nnit_contract.json`, because LeRobot refuses a configuration with unknown keys.
    """
    architecture = exported_architecture(network)
    # policy
    config = {
        "type": "nnit_mlp",
        "input_features": {"observation.state": {"type": "STATE", "shape": [architecture.in_features]}},
        "output_features": {"action": {"type": "ACTION", "shape": [architecture.out_features]}},
        # A network this small is faster on the CPU; `--policy.device` overrides it.
        "device": "cpu",
        "hidden_sizes": list(architecture.hidden_sizes),
        "activation": architecture.activation,
        **({} if architecture.output_activation is None else {"output_activation": architecture.output_activation}),
    }

    # processors
    to_device = {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}}
    preprocessor = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        to_device,
    ]
    weights = {f"network.{key}": tensor for key, tensor in float32_state_dict(network).items()}
    files = {
        "config.json": _json(config),
        "model.safetensors": save(weights, metadata={"format": "pt"}),
        LEROBOT_PREPROCESSOR: _json({"name": "policy_preprocessor", "steps": preprocessor}),
        "policy_postprocessor.json": _json({"name": "policy_postprocessor", "steps": [to_device]}),
    }
    contract = contract_json(network)
    return files if contract is None else {**files, f"{CONTRACT_KEY}.json": contract.encode()}


def _json(payload: Any) -> bytes:
    return (json.dumps(payload, indent=2) + "\n").encode()
