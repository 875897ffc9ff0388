"""Draws how many parameters a policy needs: success against size, of generated policies and of a search's finalists.

    python examples/figures/plot_parameters.py --output_path docs/images/pickcube-parameters.png

Nothing is trained or run: everything is read from JSON files that the evaluation and the search have written.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from matplotlib.figure import Figure

from nnit_diffusers import MLPArchitecture


BLUE, RED, GREY = "#1f6f8b", "#d1495b", "#5d6b73"
# The actor of ManiSkill's `ppo.py` (examples/baselines/ppo): three hidden layers of 256 units.
PPO_HIDDEN_SIZES = (256, 256, 256)


@dataclass
class Arguments:
    """Draws success against parameters."""

    evaluation_path: str = "nnit/pickcube/evaluation.json"
    """Evaluation whose section `widths` has policies of two equal layers."""
    search_path: str = "docs/measurements/pickcube_search.json"
    """Search whose finalists were confirmed on test episodes."""
    winner_path: str = "docs/measurements/pickcube_search_winner.json"
    """The winner of that search, on further episodes."""
    output_path: str = "docs/images/pickcube-parameters.png"
    """Picture to write."""


def read(path: str) -> dict[str, Any]:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def error_bars(scores: list[float], intervals: list[list[float]]) -> list[list[float]]:
    """Lengths of the bars below and above the scores, in percent."""
    below = [100 * (score - low) for score, (low, _) in zip(scores, intervals)]
    above = [100 * (high - score) for score, (_, high) in zip(scores, intervals)]
    return [below, above]


def draw(widths: dict[str, Any], search: dict[str, Any], winner: dict[str, Any]) -> Figure:
    """The picture.

    Parameters:
        widths (`dict`): Section `widths` of an evaluation.
        search (`dict`): What `nnit search` wrote.
        winner (`dict`): What `nnit evaluate --json` wrote of its winner.
    """
    figure = Figure(figsize=(8, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()

    # All policies of two equal layers, nothing chosen.
    parts = sorted((part["num_parameters"], part["nnit"]) for part in widths.values())
    means = [nnit["mean"] for _, nnit in parts]
    bars = error_bars(means, [nnit["interval"] for _, nnit in parts])
    sizes = [size for size, _ in parts]
    label = "generated, two equal layers: mean of 10 policies"
    axes.errorbar(sizes, [100 * mean for mean in means], bars, fmt="o-", color=BLUE, capsize=2, lw=1, label=label)

    # The best of each band of sizes, chosen on validation episodes.
    finalists = [(row["num_parameters"], row["confirmation"]) for row in search["result"]["finalists"]]
    scores = [row["score"] for _, row in finalists]
    bars = error_bars(scores, [row["confidence_interval"] for _, row in finalists])
    sizes = [size for size, _ in finalists]
    label = "`nnit search`: best of each size on validation episodes"
    axes.errorbar(sizes, [100 * score for score in scores], bars, fmt="s", color=RED, capsize=2, lw=1, label=label)

    # The winner of the search, and the size of the policy that people train today.
    (confirmed,) = winner["networks"]
    architecture = MLPArchitecture(**confirmed["architecture"])
    axes.annotate(
        f"{list(architecture.hidden_sizes)}: {architecture.num_parameters:,} parameters,\n"
        f"{confirmed['num_successes']} of {confirmed['num_episodes']} fresh episodes",
        (architecture.num_parameters, 100 * confirmed["score"]),
        (architecture.num_parameters * 1.1, 62),
        arrowprops={"arrowstyle": "->", "color": RED},
        color=RED,
    )
    actor = MLPArchitecture(architecture.in_features, PPO_HIDDEN_SIZES, architecture.out_features)
    axes.axvline(actor.num_parameters, color=GREY, linestyle="--", lw=1.2)
    axes.text(
        actor.num_parameters * 0.94,
        47,
        f"size of ManiSkill's PPO actor:\n{actor.num_parameters:,} parameters,\n"
        f"{actor.num_parameters / architecture.num_parameters:.0f} times as many",
        color=GREY,
        ha="right",
    )

    axes.set(xscale="log", xlabel="parameters of the policy", ylabel="success in PickCube-v1, %", ylim=(40, 102))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.42, 0.0), fontsize=8.5)
    return figure


def main(arguments: Arguments) -> None:
    figure = draw(read(arguments.evaluation_path)["widths"], read(arguments.search_path), read(arguments.winner_path))
    Path(arguments.output_path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output_path)
    print(f"Wrote {arguments.output_path}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
