"""Recorded demonstrations of others: read, checked, and converted to the files that imitation tasks train on."""

from .base import Episode, Recording
from .checks import check_recording
from .conversion import convert_recording
from .reading import read_recording


__all__ = ["Episode", "Recording", "check_recording", "convert_recording", "read_recording"]
