"""The policy `nnit_mlp`.

Shape legend: B samples or environments, I state features, O action features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from lerobot.policies import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_STATE

from ...networks import MLP
from .configuration_nnit_mlp import NNiTMLPConfig


class NNiTMLPPolicy(PreTrainedPolicy):
    """An MLP that takes the raw state and gives one action: there is nothing to normalise, to queue or to reset.

    Parameters:
        config ([`NNiTMLPConfig`]): Its configuration.
        kwargs: What else LeRobot hands to every policy; not used.
    """

    config_class = NNiTMLPConfig
    name = "nnit_mlp"

    def __init__(self, config: NNiTMLPConfig, **kwargs: Any):
        super().__init__(config)
        self.network = MLP.from_architecture(config.architecture)

    @classmethod
    def _load_as_safetensor(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:
        # LeRobot leaves at random what a file lacks, unless told not to.
        return super()._load_as_safetensor(model, model_file, map_location, strict=True)

    def get_optim_params(self) -> Iterator[torch.nn.Parameter]:
        return self.parameters()

    def reset(self) -> None:
        """Nothing is kept from one step to the next."""

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, None]:
        """The mean squared error to the actions of a dataset, for `lerobot-train`."""
        return F.mse_loss(self.network(batch[OBS_STATE]), batch[ACTION]), None

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, torch.Tensor], **kwargs: Any) -> torch.Tensor:
        """A chunk of one action, `[B, 1, O]`."""
        return self.select_action(batch)[:, None]

    @torch.no_grad()
    def select_action(self, batch: dict[str, torch.Tensor], **kwargs: Any) -> torch.Tensor:
        """The action `[B, O]` for a state `[B, I]`, as the network gives it; the environment clips."""
        return self.network(batch[OBS_STATE])
