"""Export of a model of Stable-Baselines3."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import torch

from ..contract import CONTRACT_KEY
from ..networks import ACTIVATION_MODULES, MLP, layer_keys
from .common import (
    action_bounds,
    check_linear_outputs,
    contract_json,
    exported_architecture,
    float32_state_dict,
)


# The earliest time that a ZIP archive can hold.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
# A description of the machine that wrote the archive; `PPO.load` does not need it.
_SYSTEM_INFO = "system_info.txt"


def to_sb3(network: MLP, clip_actions: Any = True) -> bytes:
    """A model for `stable_baselines3.PPO.load`; needs Stable-Baselines3, whose own `save` writes it.

    `predict(observations, deterministic=True)` gives the outputs, clipped to the action space, which the model stores.
    It does not rescale them. The model has the hidden sizes and the activation of the network, so any network fits.
    Its critic and `log_std` have the initial values of Stable-Baselines3, from a fixed seed.

    `PPO.load(path, env=env)` compares the spaces of the environment with the stored ones: unbounded float32
    observations, and float32 actions within the bounds. For an environment with other spaces, pass its own:
    `custom_objects={"observation_space": env.observation_space, "action_space": env.action_space}`.

    Like every model of Stable-Baselines3, the archive holds pickles of its spaces. A contract is another file in it,
    `nnit_contract.json`, which `PPO.load` ignores.

    Parameters:
        network ([`MLP`]): Network from observations to the means of the actions.
        clip_actions (`bool` or `tuple`, defaults to `True`): Bounds of the action space; see [`action_bounds`].

    Raises:
        `ImportError`: If Stable-Baselines3 is not installed.
        `ValueError`: If the bounds are unknown or infinite, or the network has an output activation.
    """
    architecture = exported_architecture(network)
    check_linear_outputs(architecture, "a PPO policy of Stable-Baselines3")
    bounds = action_bounds(network, clip_actions)
    if bounds is None or not all(np.isfinite(bound).all() for bound in bounds):
        received = "none" if bounds is None else f"{bounds[0].tolist()} and {bounds[1].tolist()}"
        raise ValueError(
            f"`clip_actions` must be finite bounds, because Stable-Baselines3 clips actions to them, but received "
            f"{received}."
        )
    try:
        from gymnasium.spaces import Box
        from stable_baselines3 import PPO
    except ImportError as error:
        raise ImportError(
            "The export for Stable-Baselines3 needs its package: `pip install stable-baselines3`."
        ) from error

    # a model without an environment, as `PPO.load` makes it
    policy_kwargs = {
        "net_arch": {"pi": list(architecture.hidden_sizes), "vf": list(architecture.hidden_sizes)},
        "activation_fn": ACTIVATION_MODULES[architecture.activation],
    }
    model = PPO("MlpPolicy", None, policy_kwargs=policy_kwargs, seed=0, device="cpu", _init_setup_model=False)
    model.observation_space = Box(-np.inf, np.inf, (architecture.in_features,), np.float32)
    model.action_space = Box(*bounds, dtype=np.float32)
    model.n_envs = 1
    with torch.random.fork_rng(devices=[]):
        model._setup_model()

    # its actor
    state_dict, weights = model.policy.state_dict(), float32_state_dict(network)
    for layer, (weight, bias) in enumerate(layer_keys(architecture.depth + 1)):
        module = f"mlp_extractor.policy_net.{2 * layer}" if layer < architecture.depth else "action_net"
        state_dict |= {f"{module}.weight": weights[weight], f"{module}.bias": weights[bias]}
    model.policy.load_state_dict(state_dict, strict=True)
    content = io.BytesIO()
    model.save(content)
    return _reproducible(content, contract_json(network))


def _reproducible(content: io.BytesIO, contract: str | None) -> bytes:
    """The same archive without times and without the machine, so that the same network gives the same bytes."""
    rewritten = io.BytesIO()
    with zipfile.ZipFile(content) as saved, zipfile.ZipFile(rewritten, "w") as archive:
        for name in saved.namelist():
            if name != _SYSTEM_INFO:
                archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), saved.read(name))
        if contract is not None:
            archive.writestr(zipfile.ZipInfo(f"{CONTRACT_KEY}.json", _TIMESTAMP), contract)
    return rewritten.getvalue()
