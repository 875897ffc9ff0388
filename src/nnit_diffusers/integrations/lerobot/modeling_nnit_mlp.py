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
    """An MLP from the raw state to one action, without normalisation, action queue or internal state.

    Parameters:
        config ([`NNiTMLPConfig`]): Configuration of the policy.
        kwargs: Further arguments that LeRobot passes to every policy; unused.
    """

    config_class = NNiTMLPConfig
    name = "nnit_mlp"

    def __init__(self, config: NNiTMLPConfig, **kwargs: Any):
        super().__init__(config)
        self.network = MLP.from_architecture(config.architecture)

    @classmethod
    def _load_as_safetensor(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:
        # LeRobot's default, strict=False, would leave missing weights random.
        return super()._load_as_safetensor(model, model_file, map_location, strict=True)

    def get_optim_params(self) -> Iterator[torch.nn.Parameter]:
        return self.parameters()

    def reset(self) -> None:
        """Does nothing: the policy keeps no state between steps."""

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, None]:
        """Mean squared error to the actions of a dataset, the loss of `lerobot-train`."""
        return F.mse_loss(self.network(batch[OBS_STATE]), batch[ACTION]), None

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, torch.Tensor], **kwargs: Any) -> torch.Tensor:
        """A chunk `[B, 1, O]` of one action."""
        return self.select_action(batch)[:, None]

    @torch.no_grad()
    def select_action(self, batch: dict[str, torch.Tensor], **kwargs: Any) -> torch.Tensor:
        """The network's action `[B, O]` for a state `[B, I]`; the environment clips it."""
        return self.network(batch[OBS_STATE])
