"""The scripts of `examples/` and `benchmarks/` as modules."""

import sys
from pathlib import Path

import tiny_tasks  # noqa: F401  # registers its tasks


ROOT = Path(__file__).parents[2]

# a recipe names scripts of both
sys.path[:0] = [str(ROOT / folder) for folder in ("examples", "examples/figures", "benchmarks")]
