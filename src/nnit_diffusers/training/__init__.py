"""Training of everything that a pipeline is made of: hypernetwork, transformer, and all stages in one call."""

from .config import GHNTrainingConfig, NNiTTrainingConfig, TrainingConfig
from .hypernetwork import train_ghn
from .transformer import train_nnit


__all__ = ["GHNTrainingConfig", "NNiTTrainingConfig", "TrainingConfig", "train_ghn", "train_nnit"]
