"""The pipeline that generates networks."""

from .pipeline_nnit import NNiTPipeline
from .pipeline_output import NNiTPipelineOutput


__all__ = ["NNiTPipeline", "NNiTPipelineOutput"]
