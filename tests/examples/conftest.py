"""The scripts of `examples/` as modules."""

import sys
from pathlib import Path

import tiny_tasks  # noqa: F401  # registers its tasks


EXAMPLES = Path(__file__).parents[2] / "examples"

sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "figures")]
