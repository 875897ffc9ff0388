"""Generates digit classifiers with architectures never trained on, scores them on test data and draws them.

    make demo

Four requests are made: two widths seen in training but never together, two widths never seen, more layers than ever
seen, and any architecture within a parameter budget.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from nnit_diffusers import MLP, EvaluationResult, NNiTPipeline, evaluate, get_task
from nnit_diffusers.evaluation import mean_interval, predict, select_top
from nnit_diffusers.folding import unfold_observation_statistics
from nnit_diffusers.tasks.images import ImageTask


MAX_PARAMETERS = 4000
REQUESTS: dict[str, dict[str, Any]] = {
    "held-out combination": {"arch": [48, 40]},
    "held-out widths": {"arch": [58, 42]},
    "deeper than trained": {"arch": [40, 32, 48, 24]},
    "shape left to the model": {"max_parameters": MAX_PARAMETERS},
}

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8c8c8c"


@dataclass
class Outcome:
    """The networks of one request, scored."""

    networks: list[MLP]
    results: list[EvaluationResult]
    """On test data."""
    best: int
    """Index of the network with the highest validation score."""
    seconds: float
    """Time to generate all of them."""

    @property
    def scores(self) -> list[float]:
        return [result.score for result in self.results]

    @property
    def title(self) -> str:
        if len({network.architecture for network in self.networks}) > 1:
            return f"any, up to {MAX_PARAMETERS:,} parameters"
        return str(list(self.networks[0].architecture.hidden_sizes))

    @property
    def num_parameters(self) -> str:
        counts = sorted({network.architecture.num_parameters for network in self.networks})
        return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


def generate(pipe: NNiTPipeline, task: ImageTask, num_networks: int, seed: int) -> dict[str, Outcome]:
    """Networks for every request, scored."""
    outcomes = {}
    for name, request in REQUESTS.items():
        # generate, timed
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(seed)
        networks = pipe(**request, num_networks=num_networks, generator=generator).networks
        seconds = time.perf_counter() - start
        # score, and choose the best on validation data
        validation_scores = [result.score for result in evaluate(networks, task, split="validation")]
        results = evaluate(networks, task, split="test")
        outcomes[name] = Outcome(networks, results, select_top(validation_scores, 1)[0], seconds)
    return outcomes


def print_table(outcomes: dict[str, Outcome]) -> None:
    header = ["architecture", "region", "parameters", "mean accuracy", "best by validation", "time per network"]
    # a row for each request
    rows = []
    for name, outcome in outcomes.items():
        low, high = mean_interval(outcome.scores)
        rows.append(
            [
                outcome.title,
                name,
                outcome.num_parameters,
                f"{statistics.fmean(outcome.scores):.1%} ({100 * low:.1f} to {100 * high:.1f})",
                f"{outcome.scores[outcome.best]:.1%}",
                f"{1000 * outcome.seconds / len(outcome.networks):.0f} ms",
            ]
        )
    # aligned columns
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    for line in (header, *rows):
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def weight_magnitudes(network: MLP, mean: Sequence[float], std: Sequence[float]) -> list[torch.Tensor]:
    """Magnitudes of each layer's weights for standardised inputs, `[outputs, inputs]`."""
    state_dict = unfold_observation_statistics(network.state_dict(), mean, std)
    return [tensor.abs() for tensor in state_dict.values() if tensor.ndim == 2]


def draw_weights(figure: Figure | SubFigure, titled_rows: dict[str, list[torch.Tensor]]) -> None:
    """Draws a row of heat maps for every network, one pixel size for all; see [`weight_magnitudes`]."""
    # layout: every pixel is one weight in all rows
    rows = list(titled_rows.values())
    gap = 6
    heights = [max(matrix.shape[0] for matrix in row) for row in rows]
    width = max(sum(matrix.shape[1] + gap for matrix in row) for row in rows)
    all_axes = figure.subplots(len(rows), 1, height_ratios=heights, squeeze=False).flat
    # layers side by side
    for axes, title, row, height in zip(all_axes, titled_rows, rows, heights):
        left = 0
        for matrix in row:
            extent = (left, left + matrix.shape[1], matrix.shape[0], 0)
            axes.imshow(matrix.numpy(), cmap="magma", vmin=0, vmax=matrix.quantile(0.98).item(), extent=extent)
            left += matrix.shape[1] + gap
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", anchor="W")
        axes.set_axis_off()
        axes.set_title(title, fontsize=10, loc="left")


def draw_digits(figure: SubFigure, network: MLP, task: ImageTask) -> None:
    """Draws test digits with one network's predictions."""
    inputs, labels = task.data("test")
    predictions = predict([network], task)[0]
    all_axes = figure.subplots(2, 8).flat
    for axes, index in zip(all_axes, torch.linspace(0, len(labels) - 1, 16).long().tolist()):
        axes.imshow(inputs[index].view(task.image_size, task.image_size).numpy(), cmap="gray_r")
        is_right = predictions[index] == labels[index]
        verdict = f"{predictions[index]}" if is_right else f"{predictions[index]} (is {labels[index]})"
        axes.set_title(verdict, color=BLUE if is_right else ORANGE, fontsize=11)
        axes.set_axis_off()


def draw_accuracies(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    """Draws the test accuracy of every network, the mean of each request, and the best on validation data."""
    for row, outcome in enumerate(outcomes):
        percentages = [100 * score for score in outcome.scores]
        # Spread vertically, since many networks have the same accuracy.
        heights = [row + 0.05 * (index - (len(percentages) - 1) / 2) for index in range(len(percentages))]
        axes.plot(percentages, heights, "o", color=BLUE, alpha=0.6, label="one network" if row == 0 else None)
        # the best network and the mean
        best = outcome.best
        label = "the best on validation data" if row == 0 else None
        axes.plot(percentages[best], heights[best], "o", color=ORANGE, label=label)
        axes.plot([statistics.fmean(percentages)] * 2, [row - 0.35, row + 0.35], color=GREY, linewidth=2)
    # labels and legend
    num_samples = outcomes[0].results[0].num_episodes
    axes.set(xlabel=f"accuracy on {num_samples} test digits (%)", ylim=(len(outcomes) - 0.4, -0.6))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_yticks(range(len(outcomes)), [outcome.title.replace(", up", ",\nup") for outcome in outcomes])
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.22), ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)


def draw(outcomes: dict[str, Outcome], task: ImageTask, path: Path) -> None:
    """Draws weights, predictions and accuracies, and saves the picture to `path`."""
    # left: weights of the best network of each request
    figure = Figure(figsize=(12, 7), layout="constrained", dpi=120)
    left, right = figure.subfigures(1, 2, width_ratios=(0.95, 1), squeeze=False).flat
    left.suptitle("Generated weights, layer by layer (magnitude)", fontsize=12)
    best = {name: outcome.networks[outcome.best] for name, outcome in outcomes.items()}
    mean, std = task.observation_mean.tolist(), task.observation_std.tolist()
    titled_rows = {
        f"{list(network.architecture.hidden_sizes)} – {name}": weight_magnitudes(network, mean, std)
        for name, network in best.items()
    }
    draw_weights(left, titled_rows)
    # right: predictions and accuracies
    top, bottom = right.subfigures(2, 1, height_ratios=(0.8, 1), squeeze=False).flat
    first = next(iter(outcomes.values()))
    top.suptitle(f"Predictions of a generated {first.title} network", fontsize=12)
    draw_digits(top, first.networks[first.best], task)
    draw_accuracies(bottom.subplots(), list(outcomes.values()))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    # parse
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--pipeline", default="nnit/digits", help="folder of the pipeline")
    parser.add_argument("--output", default="demo/digits.png", help="picture to write")
    parser.add_argument("--num_networks", type=int, default=8, help="networks for each request, 2 or more")
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args(arguments)
    if not (Path(parsed.pipeline) / "model_index.json").is_file():
        parser.error(
            f"there is no pipeline in {parsed.pipeline!r}: run this script from the root of the checkout, or train a "
            "pipeline with `examples/digits.sh`"
        )
    # generate, print, draw
    pipe = NNiTPipeline.from_pretrained(parsed.pipeline)
    pipe.set_progress_bar_config(desc="Generating", leave=False)
    task = get_task("digits")
    assert isinstance(task, ImageTask)
    outcomes = generate(pipe, task, parsed.num_networks, parsed.seed)
    print_table(outcomes)
    draw(outcomes, task, Path(parsed.output))
    print(f"\nWrote {parsed.output}")


if __name__ == "__main__":
    main()
