"""The pipeline that generates networks."""

from .generators import split_generator
from .pipeline_nnit import NNiTPipeline
from .pipeline_output import NNiTPipelineOutput


__all__ = ["NNiTPipeline", "NNiTPipelineOutput", "split_generator"]
