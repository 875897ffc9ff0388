"""Draws the results of `examples/evaluate_nnit.py`.

    python examples/figures/plot_evaluation.py --evaluation_path nnit/pickcube/evaluation.json

Writes a picture for each section of the evaluation into its folder: `regions.png`, `widths.png`, `depths.png`,
`unconditional.png`, `novelty.png` and `steps.png`. The model card shows the pictures in its folder.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from nnit_diffusers.cards import draw_pictures


@dataclass
class Arguments:
    """Draws an evaluation."""

    evaluation_path: str = "nnit/digits/evaluation.json"
    """JSON file written by `evaluate_nnit.py`."""
    output_dir: str | None = None
    """Folder of the pictures. Default: the folder of the evaluation."""
    score_name: str | None = None
    """Name of a score. Default: the metric of the task."""


def main(arguments: Arguments) -> None:
    path = Path(arguments.evaluation_path)
    report = json.loads(path.read_text(encoding="utf-8"))
    for picture in draw_pictures(report, arguments.output_dir or path.parent, arguments.score_name):
        print(f"Wrote {picture}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
