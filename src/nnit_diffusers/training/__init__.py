"""Training of everything that a pipeline is made of: hypernetwork, transformer, and all stages in one call."""

from .config import GHNTrainingConfig, NestedTrainingConfig, NNiTTrainingConfig, TrainingConfig
from .demonstrations import DemonstrationsConfig, collect_demonstrations
from .hypernetwork import train_ghn
from .nested import train_nested
from .recipe import Recipe
from .run import train
from .transformer import train_nnit


__all__ = [
    "DemonstrationsConfig",
    "GHNTrainingConfig",
    "NNiTTrainingConfig",
    "NestedTrainingConfig",
    "Recipe",
    "TrainingConfig",
    "collect_demonstrations",
    "train",
    "train_ghn",
    "train_nested",
    "train_nnit",
]
