"""What is done to observations before the policy `nnit_mlp` and to actions after it: nothing but moving them."""

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
    """The two pipelines; `dataset_stats` are not needed, for the network takes raw states."""
    return make_policy_processor_pipelines(
        [
            # Without these two steps `lerobot-eval` refuses the pipeline: it sets their arguments.
            RenameObservationsProcessorStep(rename_map={}),
            AddBatchDimensionProcessorStep(),
            DeviceProcessorStep(device=config.device),
        ],
        [DeviceProcessorStep(device="cpu")],
    )
