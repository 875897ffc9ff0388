"""Networks that other programs trained, read from their files. Nothing in a file is run."""

from .files import SUFFIXES, check_suffix, read_network
from .saved import ActivationIsRecorded, SavedNetwork


__all__ = ["SUFFIXES", "ActivationIsRecorded", "SavedNetwork", "check_suffix", "read_network"]
