"""Networks that other programs trained, read from their files. Nothing in a file is run."""

from .contracts import contract_of_file
from .files import SUFFIXES, check_suffix, read_network
from .saved import ActivationIsRecorded, SavedNetwork


__all__ = ["SUFFIXES", "ActivationIsRecorded", "SavedNetwork", "check_suffix", "contract_of_file", "read_network"]
