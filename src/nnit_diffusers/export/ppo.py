"""Exports of checkpoints for PPO in ManiSkill, CleanRL and RSL-RL.

A generated network has no critic and no exploration noise. A checkpoint gets the initial values of its program for
both, from a fixed seed. Acting does not use them. To continue training, the critic first has to be trained.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..architecture import MLPArchitecture
from ..checkpoints.state_dicts import RSL_RL_ACTIVATIONS
from ..contract import CONTRACT_KEY
from ..networks import ACTIVATION_MODULES, MLP, layer_keys
from .common import (
    check_linear_outputs,
    contract_json,
    exported_architecture,
    float32_state_dict,
)


@dataclass(frozen=True)
class PPOAgent:
    """The agent of a PPO script, which an exported checkpoint has to fit.

    Parameters:
        script (`str`): Name of the script.
        hidden_sizes (`tuple[int, ...]`): Hidden sizes of its actor and of its critic, both with tanh.
        log_std (`float`): Initial value of its `actor_logstd`.
        critic_gain (`float`): Gain of the orthogonal initialisation of the critic's last layer.
    """

    script: str
    hidden_sizes: tuple[int, ...]
    log_std: float
    critic_gain: float


MANISKILL_AGENT = PPOAgent("ManiSkill's examples/baselines/ppo/ppo.py", (256, 256, 256), -0.5, math.sqrt(2))
CLEANRL_AGENT = PPOAgent("CleanRL's ppo_continuous_action.py", (64, 64), 0.0, 1.0)

_RSL_RL_LEARNING_RATE = 1e-3
_RSL_RL_STD = 1.0


def to_maniskill_ppo(network: MLP, adapted_agent: bool = False) -> bytes:
    """A checkpoint for `--checkpoint` of ManiSkill's `examples/baselines/ppo/ppo.py`; see [`to_ppo_checkpoint`]."""
    return to_ppo_checkpoint(network, MANISKILL_AGENT, adapted_agent)


def to_cleanrl(network: MLP, adapted_agent: bool = False) -> bytes:
    """A checkpoint for the agent of CleanRL's `ppo_continuous_action.py`; see [`to_ppo_checkpoint`].

    That script has a wrapper that normalises observations (`NormalizeObservation`), and one that clips them to -10…10.
    Remove both, because networks of this package take raw observations.
    """
    return to_ppo_checkpoint(network, CLEANRL_AGENT, adapted_agent)


def to_ppo_checkpoint(network: MLP, agent: PPOAgent, adapted_agent: bool = False) -> bytes:
    """The state dict of a PPO script's `Agent`, written by `torch.save` and readable with `weights_only=True`.

    `actor_mean.{0,2,…}` is the network. A network has no `actor_logstd` and no `critic.{0,2,…}`, so these get the
    script's initial values, from a fixed seed.

    The agent of a script has fixed hidden sizes and tanh. A network of other sizes or another activation needs an
    `Agent` with the `actor_mean` of [`actor_source`]. A relu network of the right sizes would load into the original
    agent without an error, but compute different actions.

    Parameters:
        network ([`MLP`]): Network from observations to the means of the actions.
        agent ([`PPOAgent`]): The script's agent.
        adapted_agent (`bool`, defaults to `False`):
            Export any network, for a script that will be changed to the `actor_mean` of [`actor_source`].

    Raises:
        `ValueError`: If the network does not have the agent's hidden sizes and tanh, and `adapted_agent` is not set.
    """
    architecture = exported_architecture(network)
    outputs = architecture.output_activation
    fits = architecture.hidden_sizes == agent.hidden_sizes and architecture.activation == "tanh" and outputs is None
    if not fits and not adapted_agent:
        with_outputs = "" if outputs is None else f" with {outputs} outputs"
        raise ValueError(
            f"`network` must be a tanh network of hidden sizes {list(agent.hidden_sizes)}, the agent of "
            f"{agent.script}, but received a {architecture.activation} network of {list(architecture.hidden_sizes)}"
            f"{with_outputs}. With `adapted_agent` it is exported for an agent with "
            f"`self.actor_mean = {actor_source(architecture)}`."
        )

    # critic with the script's initialisation
    critic = MLP(architecture.in_features, agent.hidden_sizes, 1, "tanh").state_dict()
    generator = torch.Generator().manual_seed(0)
    *hidden, last = [weight for weight, _ in layer_keys(len(agent.hidden_sizes) + 1)]
    for key in (*hidden, last):
        nn.init.orthogonal_(critic[key], agent.critic_gain if key == last else math.sqrt(2), generator)
        critic[key.replace("weight", "bias")].zero_()

    # state dict of the agent
    return _saved(
        {
            "actor_logstd": torch.full((1, architecture.out_features), agent.log_std),
            **{f"critic.{key}": tensor for key, tensor in critic.items()},
            **{f"actor_mean.{key}": tensor for key, tensor in float32_state_dict(network).items()},
        }
    )


def actor_source(architecture: MLPArchitecture) -> str:
    """Python code of the architecture, to paste into a script: `nn.Sequential(nn.Linear(…`."""
    activation = f"nn.{ACTIVATION_MODULES[architecture.activation].__name__}()"
    linear = [f"nn.Linear({layer_in}, {layer_out})" for layer_out, layer_in in architecture.layer_shapes]
    outputs = architecture.output_activation
    last = "" if outputs is None else f", nn.{ACTIVATION_MODULES[outputs].__name__}()"
    return f"nn.Sequential({f', {activation}, '.join(linear)}{last})"


def to_rsl_rl(network: MLP) -> bytes:
    """A checkpoint for `OnPolicyRunner.load` of RSL-RL: releases 4 and 5, and also 2 and 3.

    The runner's settings have to be those of [`rsl_rl_settings`], which `infos` of the checkpoint records under
    `nnit_settings`, beside `nnit_contract` if the network has a contract. The checkpoint has no normaliser, because
    networks of this package take raw observations. Its critic has the hidden sizes and the observations of the actor.
    For another critic, load the actor alone: `runner.load(path, load_cfg={"actor": True})`.

    The optimiser is Adam before its first step. Critic and standard deviation have the initial values of RSL-RL.

    Parameters:
        network ([`MLP`]): Network from observations to the means of the actions.

    Raises:
        `ValueError`: If the network has an output activation.
    """
    architecture = exported_architecture(network)
    settings = rsl_rl_settings(architecture)
    actor, critic = float32_state_dict(network), _torch_initialised(architecture)
    std = torch.full((architecture.out_features,), _RSL_RL_STD)
    # an optimiser that has made no step stores the settings and the number of its parameters
    parameters = [nn.Parameter(tensor) for tensor in (std, *actor.values(), *critic.values())]
    infos: dict[str, Any] = {"nnit_settings": settings}
    contract = contract_json(network)
    if contract is not None:
        infos[CONTRACT_KEY] = contract
    return _saved(
        {
            "actor_state_dict": {"distribution.std_param": std, **_prefixed("mlp", actor)},
            "critic_state_dict": _prefixed("mlp", critic),
            # one module in releases 2 and 3
            "model_state_dict": {"std": std, **_prefixed("actor", actor), **_prefixed("critic", critic)},
            "optimizer_state_dict": torch.optim.Adam(parameters, lr=_RSL_RL_LEARNING_RATE).state_dict(),
            "iter": 0,
            "infos": infos,
        }
    )


def rsl_rl_settings(architecture: MLPArchitecture) -> dict[str, Any]:
    """What the settings of an RSL-RL runner must have, under `actor` and `critic`, to load an exported network.

    Raises:
        `ValueError`: If the outputs have an activation, which the actors of RSL-RL do not have.
    """
    check_linear_outputs(architecture, "an actor of RSL-RL")
    return {
        "hidden_dims": list(architecture.hidden_sizes),
        "activation": RSL_RL_ACTIVATIONS[architecture.activation],
        "obs_normalization": False,
    }


def _torch_initialised(architecture: MLPArchitecture) -> dict[str, torch.Tensor]:
    """A critic of the hidden sizes of an actor, with torch's own initialisation of linear layers."""
    critic = MLP(architecture.in_features, architecture.hidden_sizes, 1, architecture.activation).state_dict()
    generator = torch.Generator().manual_seed(0)
    for weight, bias in layer_keys(architecture.depth + 1):
        limit = 1 / math.sqrt(critic[weight].shape[1])
        critic[weight].uniform_(-limit, limit, generator=generator)
        critic[bias].uniform_(-limit, limit, generator=generator)
    return dict(critic)


def _prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{key}": tensor for key, tensor in tensors.items()}


def _saved(checkpoint: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.save(checkpoint, content)
    return content.getvalue()
