"""The policy in a checkpoint of a training script: its layers, its activation, and how its actions are squashed.

Read are CleanRL's and ManiSkill's PPO, SAC and TD3, RSL-RL, Stable-Baselines3, and any `nn.Sequential` MLP.
Stochastic policies act by their mean, policies of discrete actions by their scores.

Shape legend: I/O input and output features of a layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from ....loading.limits import MAX_DEPTH, MAX_PARAMETERS, MAX_WIDTH, check_total, shown
from .base import TEACHER_ACTIVATIONS, Layer, NetworkTeacher


NORMALISED = (
    "holds statistics that normalise observations, which are not read. Export the policy to ONNX with the "
    "normalisation inside."
)
_NESTINGS = ("model_state_dict", "state_dict", "model", "agent", "policy", "actor")
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|agent|policy|network)\.)+(?=\D)")
_STATISTICS = re.compile(
    r"(?:^|[._])(?:obs|observation|actor_obs|critic_obs)_?(?:rms|norm\w*)|running_mean|normalizer"
)
_EXTRACTORS = re.compile(r"^(?:pi_)?features_extractor\.|^actor\.features_extractor\.")
_NUMBERED = re.compile(r"(?P<prefix>(?:.*\.)?)(?P<index>\d+)\.weight")


@dataclass(frozen=True)
class _Layout:
    """Where a training script stores its policy.

    Parameters:
        stacks (`tuple[str, ...]`):
            Modules in the order in which they are run: a prefix of keys, empty or ending in `.`, is an
            `nn.Sequential`, another name is a linear layer.
        activation (`str`, *optional*): What the script has between the layers; `None` if it varies.
        is_squashed (`bool`, defaults to `False`): If tanh squashes the actions.
    """

    stacks: tuple[str, ...]
    activation: str | None
    is_squashed: bool = False


_LAYOUTS = (
    _Layout(("actor_mean.",), "tanh"),  # PPO of CleanRL and of ManiSkill
    _Layout(("mlp_extractor.policy_net.", "action_net"), "tanh"),  # Stable-Baselines3: PPO, A2C
    _Layout(("actor.latent_pi.", "actor.mu"), "relu", is_squashed=True),  # Stable-Baselines3: SAC
    _Layout(("actor.mu.",), "relu", is_squashed=True),  # Stable-Baselines3: TD3, DDPG
    _Layout(("q_net.q_net.",), "relu"),  # Stable-Baselines3: DQN
    _Layout(("backbone.", "fc_mean"), "relu", is_squashed=True),  # SAC of ManiSkill
    _Layout(("fc1", "fc2", "fc_mean"), "relu", is_squashed=True),  # SAC of CleanRL
    _Layout(("fc1", "fc2", "fc_mu"), "relu", is_squashed=True),  # TD3, DDPG of CleanRL
)


def teacher_of_checkpoint(
    name: str,
    checkpoint: Any,
    activation: str | None = None,
    recorded_activation: str | None = None,
    bounds: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> NetworkTeacher:
    """The teacher in what `torch.load` or safetensors read.

    Parameters:
        name (`str`): Path of the file.
        checkpoint (`Any`): A state dict, or a dictionary that nests one.
        activation (`str`, *optional*): Activation that a user names.
        recorded_activation (`str`, *optional*): Activation that the file records.
        bounds (`tuple[torch.Tensor, torch.Tensor]`, *optional*): Lowest and highest actions, `[O]` each, if recorded.

    Raises:
        `ValueError`: If there is no policy, its activation or the range of its actions is not known, or it normalises
            observations.
    """
    state_dict, nesting = _state_dict(name, checkpoint)
    layout = _layout_of(name, state_dict, nesting)
    layers = [layer for stack in layout.stacks for layer in _layers(name, state_dict, stack)]
    _check_layers(name, layers)
    chosen = activation or recorded_activation or layout.activation
    if chosen is None:
        raise ValueError(
            f"`activation` must be given for {name!r}, which does not record it: one of {tuple(TEACHER_ACTIVATIONS)}."
        )
    if chosen not in TEACHER_ACTIVATIONS:
        raise ValueError(
            f"`activation` of {name!r} must be one of {tuple(TEACHER_ACTIVATIONS)}, but is {shown(chosen)}. Export "
            "the policy to ONNX."
        )
    squash = _squash(name, state_dict, bounds, len(layers[-1][1])) if layout.is_squashed else None
    return NetworkTeacher(name, layers, chosen, squash)


def _state_dict(name: str, checkpoint: Any) -> tuple[dict[str, torch.Tensor], str]:
    """The state dict that holds the policy, and the key that it was nested under, `""` for none."""
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"{name!r} must hold a state dict, but holds a {type(checkpoint).__name__}.")
    nesting = next((key for key in _NESTINGS if isinstance(checkpoint.get(key), Mapping)), "")
    # statistics may stand beside the nested state dict
    nested = checkpoint[nesting] if nesting else checkpoint
    for source in (checkpoint, nested):
        normalisers = [str(key) for key, value in source.items() if _STATISTICS.search(str(key)) and _holds_any(value)]
        if normalisers:
            raise ValueError(f"{name!r} {NORMALISED} It has {_listed(normalisers)}.")
    tensors = {str(key): value for key, value in nested.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError(f"{name!r} must hold the weights of a policy, but holds {_listed(map(str, checkpoint))}.")
    # wrappers of distributed and compiled modules put their name before every key
    return {_WRAPPERS.sub("", key): tensor for key, tensor in tensors.items()}, nesting


def _holds_any(value: Any) -> bool:
    return len(value) > 0 if isinstance(value, Mapping) else value is not None


def _layout_of(name: str, state_dict: Mapping[str, torch.Tensor], nesting: str) -> _Layout:
    extractors = [key for key in state_dict if _EXTRACTORS.match(key)]
    if extractors:
        raise ValueError(
            f"{name!r} must hold an MLP of observations, but extracts features first, by {_listed(extractors)}. "
            "Export the policy to ONNX."
        )

    def holds(stack: str) -> bool:
        if stack.endswith("."):
            return any(match["prefix"] == stack for match in _numbered(state_dict))
        return f"{stack}.weight" in state_dict

    for layout in _LAYOUTS:
        # without hidden layers, Stable-Baselines3 stores only the last one
        if all(holds(stack) for stack in layout.stacks) or (layout.stacks[-1] == "action_net" and holds("action_net")):
            return layout
    # `actor.` of RSL-RL and of CleanRL's discrete PPO, or the only Sequential that is no critic
    prefixes = sorted({match["prefix"] for match in _numbered(state_dict)})
    if "actor." in prefixes:
        return _Layout(("actor.",), "elu" if nesting == "model_state_dict" else "tanh")
    actors = [prefix for prefix in prefixes if not re.search(r"critic|value|qf|target|encoder", prefix)]
    if len(actors) != 1:
        raise ValueError(
            f"{name!r} must hold one policy, an MLP such as `actor_mean.0.weight`, `actor.0.weight` or `0.weight`, "
            f"but holds {_listed(state_dict)}."
        )
    return _Layout((actors[0],), None)


def _numbered(state_dict: Mapping[str, torch.Tensor]) -> Iterator[re.Match[str]]:
    """Matches of the keys of layers in an `nn.Sequential`."""
    for key in state_dict:
        match = _NUMBERED.fullmatch(key)
        if match:
            yield match


def _layers(name: str, state_dict: Mapping[str, torch.Tensor], stack: str) -> Iterator[Layer]:
    """Linear layers of a stack, in their order."""
    if stack and not stack.endswith("."):
        yield _layer(name, state_dict, stack)
        return
    indices = sorted(int(match["index"]) for match in _numbered(state_dict) if match["prefix"] == stack)
    for before, after in pairwise(indices):
        if after - before < 2:
            raise ValueError(
                f"{name!r} must have an activation between its layers, but `{stack}{before}` and `{stack}{after}` "
                "follow each other. Export the policy to ONNX."
            )
    for index in indices:
        yield _layer(name, state_dict, f"{stack}{index}")


def _layer(name: str, state_dict: Mapping[str, torch.Tensor], key: str) -> Layer:
    weight, bias = state_dict[f"{key}.weight"], state_dict.get(f"{key}.bias")
    is_linear = weight.ndim == 2 and weight.is_floating_point() and weight.layout is torch.strided
    if not is_linear or bias is None or bias.shape != weight.shape[:1]:
        found = "no bias" if bias is None else f"shapes {list(weight.shape)} and {list(bias.shape)}"
        raise ValueError(
            f"{name!r} must have linear layers with a bias, but `{key}` has {found}. Export the policy to ONNX."
        )
    return weight, bias


def _check_layers(name: str, layers: list[Layer]) -> None:
    """Raises `ValueError` if layers are too many, too large or do not chain."""
    if len(layers) > MAX_DEPTH + 1:
        raise ValueError(f"{name!r} may have {MAX_DEPTH} hidden layers at most, but has {len(layers) - 1}.")
    if max(size for weight, _ in layers for size in weight.shape) > MAX_WIDTH:
        raise ValueError(f"{name!r} may have layers of {MAX_WIDTH} units at most, but has wider ones.")
    check_total(f"The parameters of {name!r}", sum(weight.numel() for weight, _ in layers), MAX_PARAMETERS)
    for (before, _), (after, _) in pairwise(layers):
        if before.shape[0] != after.shape[1]:
            raise ValueError(
                f"{name!r} must have layers that chain, but one of {before.shape[0]} outputs is followed by one of "
                f"{after.shape[1]} inputs."
            )


def _squash(
    name: str,
    state_dict: Mapping[str, torch.Tensor],
    bounds: tuple[torch.Tensor, torch.Tensor] | None,
    out_features: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and offset, `[O]` each, that map tanh to actions."""
    scale, offset = state_dict.get("action_scale"), state_dict.get("action_bias")
    if bounds is not None:
        scale, offset = (bounds[1] - bounds[0]) / 2, (bounds[1] + bounds[0]) / 2
    if scale is None or offset is None or any(each.numel() not in (1, out_features) for each in (scale, offset)):
        raise ValueError(
            f"{name!r} must record the range of its {out_features} actions, which tanh squashes, but does not. Export "
            "the policy to ONNX."
        )
    scale_O, offset_O = (each.float().reshape(-1).expand(out_features).clone() for each in (scale, offset))
    return scale_O, offset_O


def _listed(names: Iterable[str], most: int = 6) -> str:
    """The first of some names, for an error message."""
    shortened = [name[:100] for name in names]
    more = f" and {len(shortened) - most} more" if len(shortened) > most else ""
    return (", ".join(f"`{name}`" for name in shortened[:most]) + more) or "nothing"
