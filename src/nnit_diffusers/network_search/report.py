"""The result of a search as a table and as a plot."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..markdown import markdown_table
from ..writing import write_bytes
from .state import Candidate, SearchResult, measured


if TYPE_CHECKING:
    from matplotlib.axes import Axes


_FRONT, _OTHERS, _WINNER = "#1f6f8b", "#9aa5ab", "#d1495b"


def search_table(result: SearchResult) -> str:
    """All finalists as a Markdown table, fewest parameters first."""
    rows = []
    # a row per finalist: size, latency, confirmed score, and the Pareto fronts it is on
    for candidate in result.finalists:
        confirmation = measured(candidate.confirmation)
        low, high = confirmation.confidence_interval
        fronts = {"parameters": result.front, "latency": result.latency_front}
        rows.append(
            [
                candidate.name,
                _sizes(candidate),
                f"{candidate.num_parameters:,}",
                f"{measured(candidate.latency_us):.1f} µs",
                *(f"{number:,}" for number in result.cost(candidate).values()),
                f"{confirmation.score:.1%} ({100 * low:.1f} to {100 * high:.1f})",
                f"{confirmation.num_episodes:,}",
                ", ".join(name for name, front in fronts.items() if candidate in front) or "-",
                "winner" if candidate is result.winner else "",
            ]
        )
    cost = ["Flash, bytes", "RAM, bytes", "MACs"] if result.limits.settings() else []
    confirmed = "Confirmed" if result.limits.quantize is None else f"Confirmed with {result.limits.quantize} weights"
    header = ["Network", "Hidden sizes", "Parameters", "Latency", *cost, confirmed, "Episodes", "On the front of", ""]
    return markdown_table(header, rows)


def _sizes(candidate: Candidate) -> str:
    return str(list(candidate.architecture.hidden_sizes))


def plot_search(result: SearchResult, path: str | Path) -> None:
    """Plots confirmed scores against parameters and against latency, with intervals, Pareto fronts and the target.

    Parameters:
        result ([`SearchResult`]): The search.
        path (`str` or `Path`): A `.png`, `.svg` or `.pdf` file.

    Raises:
        `ImportError`: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter
    except ImportError as error:
        raise ImportError("The plot of a search needs matplotlib: `pip install nnit-diffusers[search]`.") from error

    # both plots
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _plot_front(left, result, result.front, "num_parameters")
    _plot_front(right, result, result.latency_front, "latency_us")

    # axes and legend
    left.set(xscale="log", xlabel="Parameters", ylabel="Confirmed score, %")
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter("{x:,.0f}")
    left.xaxis.set_minor_formatter(NullFormatter())
    right.set(xlabel="Latency of one call, µs (batch 1, one CPU thread)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)

    # atomic write
    content = io.BytesIO()
    figure.savefig(content, format=Path(path).suffix[1:], dpi=160)
    write_bytes(path, content.getvalue())


def _plot_front(axes: Axes, result: SearchResult, front: list[Candidate], cost: str) -> None:
    def draw(candidates: list[Candidate], **style: Any) -> None:
        confirmed = [measured(c.confirmation) for c in candidates]
        costs, scores = [getattr(c, cost) for c in candidates], [100 * r.score for r in confirmed]
        bounds = [[100 * r.confidence_interval[end] for r in confirmed] for end in (0, 1)]
        errors = [[abs(score - bound) for score, bound in zip(scores, side)] for side in bounds]
        axes.errorbar(costs, scores, yerr=errors, capsize=2, elinewidth=1, **style)

    # finalists off the front, the front, the winner, the target
    others = [c for c in result.finalists if c not in front and c is not result.winner]
    if others:
        draw(others, fmt="o", color=_OTHERS, label="confirmed networks")
    draw(front, fmt="o-", color=_FRONT, label="Pareto front")
    if result.winner is not None:
        draw([result.winner], fmt="*", color=_WINNER, markersize=14, label=f"winner: {_sizes(result.winner)}")
    axes.axhline(100 * result.target, color="black", linewidth=1, linestyle="--", label=f"target {result.target:.0%}")
    axes.spines[["top", "right"]].set_visible(False)
