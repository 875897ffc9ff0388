"""Pre- and postprocessor of the policy `nnit_mlp`, which only move tensors between devices."""

from __future__ import annotations

from typing import Any

from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    RenameObservationsProcessorStep,
)
from lerobot.processor.factory import make_policy_processor_pipelines

from .configuration_nnit_mlp import NNiTMLPConfig


def make_nnit_mlp_pre_post_processors(config: NNiTMLPConfig, dataset_stats: Any = None) -> tuple[Any, Any]:
    """Returns preprocessor and postprocessor; `dataset_stats` is unused, because the network takes raw states."""
    return make_policy_processor_pipelines(
        [
            # `lerobot-eval` sets arguments of the first and the last step, and refuses a pipeline without them.
            RenameObservationsProcessorStep(rename_map={}),
            AddBatchDimensionProcessorStep(),
            DeviceProcessorStep(device=config.device),
        ],
        [DeviceProcessorStep(device="cpu")],
    )
