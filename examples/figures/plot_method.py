"""Draws how the method works: from a task to a generator of networks, and from a request to a network.

    python examples/figures/plot_method.py --output_path docs/images/method.png

The weights in the picture are those of a network that the pipeline generates.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from nnit_diffusers import MLP, NNiTPipeline


BLUE, ORANGE, GREY, INK = "#1f6f8b", "#d1495b", "#e8ecee", "#22313a"
# The canvas in inches; everything is placed in them.
WIDTH, HEIGHT = 14.0, 5.6
# Noise levels of the patches that are drawn, from the start of sampling to its end.
NOISE_LEVELS = {1.0: "noise", 0.5: "denoising", 0.0: "clean weights"}
# The largest magnitude that the colours separate, in units of the rms of the matrix.
LARGEST = 2.5
# The longest side of a drawn matrix in inches, and how far apart two are.
LONGEST_SIDE, GAP = 1.15, 0.14


@dataclass
class Arguments:
    """Draws the method."""

    pretrained_model_name_or_path: str = "nnit/digits"
    """Pipeline that generates the weights in the picture."""
    hidden_sizes: tuple[int, ...] = (48, 40)
    """Architecture of the network in the picture."""
    seed: int = 0
    """Seed of the network and of the noise."""
    output_path: str = "docs/images/method.png"
    """Picture to write."""


def box(canvas: Axes, x: float, y: float, width: float, height: float, title: str, text: str, colour: str) -> None:
    """A rounded box with a title and a few lines below it."""
    shape = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.12", facecolor="white", edgecolor=colour, lw=1.6
    )
    canvas.add_patch(shape)
    canvas.text(x + width / 2, y + height - 0.24, title, ha="center", va="center", fontsize=12, weight="bold")
    canvas.text(x + width / 2, y + (height - 0.4) / 2, text, ha="center", va="center", fontsize=10, linespacing=1.45)


def arrow(canvas: Axes, start: tuple[float, float], end: tuple[float, float], label: str = "") -> None:
    canvas.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.4})
    middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    canvas.text(middle[0], middle[1] + 0.1, label, ha="center", va="bottom", fontsize=9.5, color=INK)


def token(canvas: Axes, x: float, y: float, text: str, colour: str) -> None:
    """One token of the transformer's sequence."""
    canvas.add_patch(
        FancyBboxPatch((x, y), 0.52, 0.34, boxstyle="round,pad=0,rounding_size=0.05", fc=colour, ec="none")
    )
    canvas.text(x + 0.26, y + 0.16, text, ha="center", va="center", fontsize=9, color="white", weight="bold")


def matrices(canvas: Axes, x: float, y: float, weights: list[torch.Tensor], patch_size: int) -> float:
    """Weight matrices side by side, centred at height `y`, cut into patches by white lines; returns where they end."""
    inches_per_unit = LONGEST_SIDE / max(max(matrix.shape) for matrix in weights)
    for matrix in weights:
        rows, columns = matrix.shape
        width, height = columns * inches_per_unit, rows * inches_per_unit
        left, bottom = x, y - height / 2
        magnitude = (matrix.abs() / matrix.square().mean().sqrt()).numpy()
        canvas.imshow(
            magnitude,
            cmap="magma",
            vmin=0,
            vmax=LARGEST,
            extent=(left, left + width, bottom, bottom + height),
            interpolation="nearest",
            zorder=2,
        )
        lines: dict[str, Any] = {"color": "white", "lw": 0.6, "zorder": 3}
        for column in range(patch_size, columns, patch_size):
            canvas.plot([left + column * inches_per_unit] * 2, [bottom, bottom + height], **lines)
        for row in range(patch_size, rows, patch_size):
            canvas.plot([left, left + width], [bottom + height - row * inches_per_unit] * 2, **lines)
        x += width + GAP
    return x - GAP


def draw(network: MLP, patch_size: int, generator: torch.Generator) -> Figure:
    """The picture: training above, generation below."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=150)
    canvas = figure.add_axes((0, 0, 1, 1))
    weights = [tensor.detach() for name, tensor in network.state_dict().items() if name.endswith("weight")]
    weights = [matrix / matrix.square().mean().sqrt() for matrix in weights]
    # two lanes
    for bottom, title in ((2.95, "Training, once for a task"), (0.15, "Generating, in one call")):
        lane = FancyBboxPatch(
            (0.15, bottom), WIDTH - 0.3, 2.5, boxstyle="round,pad=0,rounding_size=0.15", fc=GREY, ec="none", zorder=-1
        )
        canvas.add_patch(lane)
        canvas.text(0.38, bottom + 2.24, title, fontsize=12.5, weight="bold", color=INK, va="center")
    draw_training(canvas, weights, patch_size)
    draw_generation(canvas, weights, patch_size, generator)
    canvas.set(xlim=(0, WIDTH), ylim=(0, HEIGHT), aspect="equal")
    canvas.set_axis_off()
    return figure


def draw_training(canvas: Axes, weights: list[torch.Tensor], patch_size: int) -> None:
    """The upper lane: a task teaches the hypernetwork, whose networks teach the transformer."""
    box(canvas, 0.4, 3.3, 1.9, 1.55, "Task", "labelled data, or a\nsimulator and an\nexpert to imitate", INK)
    arrow(canvas, (2.35, 4.07), (2.85, 4.07))
    box(
        canvas, 2.9, 3.3, 2.25, 1.55, "Graph hypernetwork",
        "any architecture + a latent\n→ weights that work;\nunit j means the same\nin every network", BLUE,
    )  # fmt: skip
    arrow(canvas, (5.2, 4.07), (5.65, 4.07))
    end = matrices(canvas, 5.75, 4.07, weights, patch_size)
    canvas.text((5.75 + end) / 2, 3.28, "endless networks,\ncut into patches", ha="center", va="center", fontsize=10)
    arrow(canvas, (end + 0.08, 4.07), (end + 0.53, 4.07))
    left = end + 0.58
    box(canvas, left, 3.3, WIDTH - 0.4 - left, 1.55, "Diffusion transformer", "", ORANGE)
    tokens_from = left + (WIDTH - 0.4 - left - 6 * 0.58 + 0.06) / 2
    patches_from = tokens_from + 3 * 0.58
    for index, text in enumerate(("48", "40", "–")):
        token(canvas, tokens_from + 0.58 * index, 4.02, text, BLUE)
    for index in range(3):
        token(canvas, patches_from + 0.58 * index, 4.02, "▦", ORANGE)
    canvas.text(tokens_from, 3.86, "widths:\nmasked diffusion", fontsize=9.5, va="top", color=BLUE)
    canvas.text(patches_from, 3.86, "weight patches:\nflow matching", fontsize=9.5, va="top", color=ORANGE)


def draw_generation(canvas: Axes, weights: list[torch.Tensor], patch_size: int, generator: torch.Generator) -> None:
    """The lower lane: the architecture first, then its patches from noise."""
    box(
        canvas, 0.4, 0.5, 1.9, 1.55, "Request",
        "[48, 40]  or  [48, None]\nor at most 5,000\nparameters", INK,
    )  # fmt: skip
    arrow(canvas, (2.35, 1.27), (2.85, 1.27))
    for index, (text, colour) in enumerate((("48", BLUE), ("?", "#9aa5ab"), ("?", "#9aa5ab"))):
        token(canvas, 2.95 + 0.58 * index, 1.48, text, colour)
    for index, text in enumerate(("48", "40", "–")):
        token(canvas, 2.95 + 0.58 * index, 0.82, text, BLUE)
    arrow(canvas, (3.79, 1.44), (3.79, 1.2))
    canvas.text(3.79, 0.45, "unmask the widths", ha="center", va="center", fontsize=10)
    x = 4.8
    for level, caption in NOISE_LEVELS.items():
        # What flow matching goes through: a mean of clean weights and noise, here of the first matrix alone.
        shown = weights if level == 0 else weights[:1]
        noisy = [(1 - level) * clean + level * torch.randn(clean.shape, generator=generator) for clean in shown]
        arrow(canvas, (x, 1.27), (x + 0.4, 1.27))
        start = x + 0.45
        end = matrices(canvas, start, 1.27, noisy, patch_size)
        canvas.text((start + end) / 2, 0.45, caption, ha="center", va="center", fontsize=10)
        x = end + 0.08
    arrow(canvas, (x, 1.27), (x + 0.4, 1.27))
    canvas.text(x + 0.48, 1.27, "a plain torch\nMLP that\nalready works", fontsize=10, weight="bold", va="center")


def main(arguments: Arguments) -> None:
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    generator = torch.Generator().manual_seed(arguments.seed)
    network = pipe(arch=list(arguments.hidden_sizes), generator=generator).networks[0]
    figure = draw(network, pipe.tokenizer.config.patch_size, generator)
    Path(arguments.output_path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output_path)
    print(f"Wrote {arguments.output_path}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
