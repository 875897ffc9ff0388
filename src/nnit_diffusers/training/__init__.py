"""Training of everything that a pipeline is made of: hypernetwork, transformer, and all stages in one call."""

from .config import GHNTrainingConfig, NNiTTrainingConfig, TrainingConfig
from .demonstrations import DemonstrationsConfig, collect_demonstrations
from .hypernetwork import train_ghn
from .recipe import Recipe
from .run import train
from .transformer import train_nnit


__all__ = [
    "DemonstrationsConfig",
    "GHNTrainingConfig",
    "NNiTTrainingConfig",
    "Recipe",
    "TrainingConfig",
    "collect_demonstrations",
    "train",
    "train_ghn",
    "train_nnit",
]
