"""The agents that PPO scripts load a checkpoint into, in our words: names, shapes, and what acting is.

Read from `examples/baselines/ppo/ppo.py` of haosulab/ManiSkill (commit dcb8721e), which its wheel does not have, and
from `cleanrl/ppo_continuous_action.py` of vwxyzjn/cleanrl (commit 016ca33a).
"""

from itertools import pairwise

import torch
from torch import nn
from torch.distributions import Normal


def tanh_layers(*widths):
    layers = [nn.Linear(layer_in, layer_out) for layer_in, layer_out in pairwise(widths)]
    return nn.Sequential(*[module for layer in layers for module in (layer, nn.Tanh())][:-1])


class ManiSkillAgent(nn.Module):
    """Actor and critic of three hidden layers of 256, tanh between them, and one log-std for every action."""

    widths = (256, 256, 256)
    initial_log_std = -0.5

    def __init__(self, in_features, out_features):
        super().__init__()
        self.critic = tanh_layers(in_features, *self.widths, 1)
        self.actor_mean = tanh_layers(in_features, *self.widths, out_features)
        self.actor_logstd = nn.Parameter(torch.full((1, out_features), self.initial_log_std))

    def get_action(self, observations, deterministic=False):
        """What the script evaluates with: the mean, if asked to be deterministic."""
        mean = self.actor_mean(observations)
        return mean if deterministic else Normal(mean, self.actor_logstd.exp()).sample()

    def get_action_and_value(self, observations, actions):
        """What the script trains with: log-probabilities of actions, and values."""
        distribution = Normal(self.actor_mean(observations), self.actor_logstd.exp())
        return distribution.log_prob(actions).sum(1), self.critic(observations)


class CleanRLAgent(ManiSkillAgent):
    """The same of two hidden layers of 64."""

    widths = (64, 64)
    initial_log_std = 0.0
