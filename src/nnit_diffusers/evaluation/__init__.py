"""Evaluation of networks and of pipelines: scores, intervals, novelty, the report and its tables."""

from ..intervals import mean_interval, wilson_interval
from .scoring import EvaluationResult, evaluate, predict, select_top


__all__ = [
    "EvaluationResult",
    "evaluate",
    "mean_interval",
    "predict",
    "select_top",
    "wilson_interval",
]
