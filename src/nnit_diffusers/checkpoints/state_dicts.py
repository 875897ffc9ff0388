"""The policy in a checkpoint of a training script: its layers, its activation, its normaliser and its squashing.

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

from .saved import Layer, SavedNetwork, Statistics, chosen_activation


RSL_RL_EPSILON = 1e-2
"""What `EmpiricalNormalization` of RSL-RL adds to the standard deviation, in every release. No file records it."""
_NESTINGS = ("model_state_dict", "actor_state_dict", "state_dict", "model", "agent", "policy", "actor")
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|agent|policy|network)\.)+(?=\D)")
# normalisers of actors as RSL-RL names them: before 3.0 beside the weights, up to 3.x and since 4.0 among them
_NORMALISERS = ("obs_norm_state_dict", "actor_obs_normalizer", "obs_normalizer")
_STATISTICS = re.compile(r"(?:^|[._])(?:obs|observation|actor_obs)_?(?:rms|norm\w*)|running_mean|normalizer")
_OF_CRITICS = re.compile(r"^(?:critic|privileged)")
_EXTRACTORS = re.compile(r"^(?:pi_)?features_extractor\.|^actor\.features_extractor\.|(?:^|\.)cnns?\.")
_RECURRENT = re.compile(r"(?:^|\.)weight_[ih]h_l\d+$")
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
        hidden_sizes (`tuple[tuple[int, ...], ...]`, *optional*):
            Hidden sizes of the scripts, if these are part of their code: others show that the code was changed, and
            the activation maybe with them.
        is_option (`bool`, defaults to `False`): If the activation is a default, which the file itself may replace.
        std (`tuple[str, ...]`, defaults to `()`):
            Standard deviations, one of which stands beside the policy unless its outputs are more than actions.
    """

    stacks: tuple[str, ...]
    activation: str | None
    is_squashed: bool = False
    hidden_sizes: tuple[tuple[int, ...], ...] | None = None
    is_option: bool = False
    std: tuple[str, ...] = ()


_LAYOUTS = (
    # PPO of CleanRL and of ManiSkill
    _Layout(("actor_mean.",), "tanh", hidden_sizes=((64, 64), (256, 256, 256))),
    # Stable-Baselines3: PPO and A2C, SAC, TD3 and DDPG, DQN
    _Layout(("mlp_extractor.policy_net.", "action_net"), "tanh", is_option=True),
    _Layout(("actor.latent_pi.", "actor.mu"), "relu", is_squashed=True, is_option=True),
    _Layout(("actor.mu.",), "relu", is_squashed=True, is_option=True),
    _Layout(("q_net.q_net.",), "relu", is_option=True),
    # SAC of ManiSkill, SAC of CleanRL, TD3 and DDPG of CleanRL
    _Layout(("backbone.", "fc_mean"), "relu", is_squashed=True),
    _Layout(("fc1", "fc2", "fc_mean"), "relu", is_squashed=True),
    _Layout(("fc1", "fc2", "fc_mu"), "relu", is_squashed=True),
)
# RSL-RL up to 3.x and since 4.0, and the discrete PPO of CleanRL
_RSL_RL = _Layout(("actor.",), "elu", std=("std", "log_std"))
_RSL_RL_MODELS = _Layout(("mlp.",), "elu", std=("distribution.std_param", "distribution.log_std_param"))
_CLEANRL_DISCRETE = _Layout(("actor.",), "tanh", hidden_sizes=((64, 64),))
RSL_RL_ACTIVATIONS = {
    "relu": "relu",
    "tanh": "tanh",
    "gelu": "gelu",
    "silu": "swish",
    "elu": "elu",
    "leaky_relu": "lrelu",
}
"""Names of activations in the settings of RSL-RL."""


@dataclass(frozen=True)
class Options:
    """What stands in a file beside its tensors, and what the user adds.

    Parameters:
        activation (`str`, *optional*): Activation that the user names.
        recorded (`str`, *optional*): Activation that the file records.
        knows_defaults (`bool`, defaults to `False`): The file would record an activation that is no default.
        bounds (`tuple[torch.Tensor, torch.Tensor]`, *optional*): Lowest and highest actions, `[O]` each, if recorded.
        is_squashed (`bool`, defaults to `False`): The file records that tanh squashes the actions.
        has_statistics (`bool`, defaults to `False`): The user gives the statistics of the normaliser.
    """

    activation: str | None = None
    recorded: str | None = None
    knows_defaults: bool = False
    bounds: tuple[torch.Tensor, torch.Tensor] | None = None
    is_squashed: bool = False
    has_statistics: bool = False


def network_of_checkpoint(name: str, checkpoint: Any, options: Options) -> SavedNetwork:
    """The network in what `torch.load` or safetensors read.

    Parameters:
        name (`str`): Path of the file.
        checkpoint (`Any`): A state dict, or a dictionary that nests one.
        options (`Options`): What else is known of it.

    Raises:
        `ValueError`: If there is no policy, its activation or the range of its actions is not known, or it normalises
            observations by statistics that are not read.
    """
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"{name!r} must hold a state dict, but holds a {type(checkpoint).__name__}.")
    nesting = next((key for key in _NESTINGS if isinstance(checkpoint.get(key), Mapping)), "")
    nested = checkpoint[nesting] if nesting else checkpoint
    statistics = _statistics(name, checkpoint, nested, options.has_statistics)
    tensors = {str(key): value for key, value in nested.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError(f"{name!r} must hold the weights of a policy, but holds {_listed(map(str, checkpoint))}.")
    # wrappers of distributed and compiled modules put their name before every key
    state_dict = {_WRAPPERS.sub("", key): tensor for key, tensor in tensors.items()}
    layout = _layout_of(name, state_dict, nesting)
    layers = [layer for stack in layout.stacks for layer in _layers(name, state_dict, stack)]
    # the layout's activation is known only while the script or the file could not have another one
    hidden_sizes = tuple(len(bias) for _, bias in layers[:-1])
    is_known = layout.hidden_sizes is None or hidden_sizes in layout.hidden_sizes
    known = layout.activation if is_known and (options.knows_defaults or not layout.is_option) else None
    recorded = options.recorded or _exported_activation(checkpoint)
    activation = chosen_activation(name, options.activation, recorded, known)
    is_squashed = layout.is_squashed or options.is_squashed
    squash = _squash(name, state_dict, options.bounds, len(layers[-1][1])) if is_squashed else None
    return SavedNetwork(name, layers, activation, statistics, squash)


def _exported_activation(checkpoint: Mapping[Any, Any]) -> str | None:
    """The activation that our export records for RSL-RL, whose own checkpoints hold no settings."""
    infos = checkpoint.get("infos")
    settings = infos.get("nnit_settings") if isinstance(infos, Mapping) else None
    found = settings.get("activation") if isinstance(settings, Mapping) else None
    return next((name for name, theirs in RSL_RL_ACTIVATIONS.items() if theirs == found), None)


def _statistics(
    name: str, checkpoint: Mapping[Any, Any], nested: Mapping[Any, Any], has_given: bool
) -> Statistics | None:
    """Statistics of RSL-RL's normaliser, if the checkpoint has one.

    Raises:
        `ValueError`: If it has another one, and the user gives no statistics in its place.
    """
    # they stand beside the nested state dict, or in it
    sources = {str(key): value for source in (checkpoint, nested) for key, value in source.items()}
    for normaliser in _NORMALISERS:
        beside = sources.get(normaliser)
        found = beside if isinstance(beside, Mapping) else sources
        prefix = "" if isinstance(beside, Mapping) else f"{normaliser}."
        mean, std = (found.get(f"{prefix}{key}") for key in ("_mean", "_std"))
        if isinstance(mean, torch.Tensor) and isinstance(std, torch.Tensor):
            return mean.double().reshape(-1), std.double().reshape(-1) + RSL_RL_EPSILON
    others = [
        key
        for key, value in sources.items()
        if _STATISTICS.search(key) and not _OF_CRITICS.match(key) and _holds_any(value)
    ]
    if others and not has_given:
        raise ValueError(
            f"{name!r} holds statistics that normalise observations, in a form that is not read: {_listed(others)}. "
            "Give `observation_mean` and `observation_std` to `MLP.from_checkpoint`, or export the policy to ONNX "
            "with the normalisation inside."
        )
    return None


def _holds_any(value: Any) -> bool:
    return len(value) > 0 if isinstance(value, Mapping) else value is not None


def _layout_of(name: str, state_dict: Mapping[str, torch.Tensor], nesting: str) -> _Layout:
    """The layout of a checkpoint.

    Raises:
        `ValueError`: If it is none that is known, or the policy is more than an MLP of observations.
    """
    for pattern, what in ((_EXTRACTORS, "extracts features first"), (_RECURRENT, "is recurrent")):
        found = [key for key in state_dict if pattern.search(key)]
        if found:
            raise ValueError(
                f"{name!r} must hold an MLP of observations, but {what}, by {_listed(found)}. Export the policy to "
                "ONNX."
            )

    def holds(stack: str) -> bool:
        if stack.endswith("."):
            return any(match["prefix"] == stack for match in _numbered(state_dict))
        return f"{stack}.weight" in state_dict

    for layout in _LAYOUTS:
        # Stable-Baselines3 has no `mlp_extractor` if `net_arch` is empty
        if all(holds(stack) for stack in layout.stacks) or (layout.stacks[-1] == "action_net" and holds("action_net")):
            return layout
    # `actor.` of RSL-RL and of CleanRL's discrete PPO
    prefixes = sorted({match["prefix"] for match in _numbered(state_dict)})
    if "actor." in prefixes or nesting == "actor_state_dict":
        of_rsl_rl = {"model_state_dict": _RSL_RL, "actor_state_dict": _RSL_RL_MODELS}
        layout = of_rsl_rl.get(nesting, _CLEANRL_DISCRETE)
        if layout.std and not set(layout.std) & set(state_dict):
            raise ValueError(
                f"{name!r} must hold {_listed(layout.std)}, but has neither: its outputs are more than actions, such "
                "as a standard deviation that depends on the observation. Export the policy to ONNX."
            )
        return layout
    # the only Sequential that is no critic
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
