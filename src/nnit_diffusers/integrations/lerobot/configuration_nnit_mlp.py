"""Configuration of the policy `nnit_mlp`."""

from __future__ import annotations

from dataclasses import dataclass, field

from lerobot.configs import PreTrainedConfig
from lerobot.optim import AdamConfig

from ...architecture import MLPArchitecture


@PreTrainedConfig.register_subclass("nnit_mlp")
@dataclass
class NNiTMLPConfig(PreTrainedConfig):
    """Configuration of an MLP from the raw state to the action; `nnit export --format lerobot` writes it.

    Parameters:
        hidden_sizes (`list[int]`): Width of every hidden layer.
        activation (`str`, defaults to `"relu"`): Activation between the linear layers.
        output_activation (`str`, *optional*): Activation after the last linear layer, `"tanh"` or none.
    """

    hidden_sizes: list[int] = field(default_factory=lambda: [256, 256, 256])
    activation: str = "relu"
    output_activation: str | None = None

    @property
    def architecture(self) -> MLPArchitecture:
        """Sizes and activation of the MLP.

        Raises:
            `ValueError`: If the state or the action is missing, or a size or the activation is invalid.
        """
        self.validate_features()
        return MLPArchitecture(
            self.robot_state_feature.shape[0],
            tuple(self.hidden_sizes),
            self.action_feature.shape[0],
            self.activation,
            self.output_activation,
        )

    def validate_features(self) -> None:
        """Raises `ValueError` unless the input is one state vector and the output one action vector."""
        for name, feature in (
            ("input_features", self.robot_state_feature),
            ("output_features", self.action_feature),
        ):
            if feature is None or len(feature.shape) != 1:
                raise ValueError(
                    f"`{name}` of a nnit_mlp policy must hold one vector, observation.state as input and action as "
                    f"output, but holds {getattr(self, name)}."
                )

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> None:
        return None

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> AdamConfig:
        return AdamConfig()

    def get_scheduler_preset(self) -> None:
        return None
