"""Pictures of an evaluation, a picture for each section."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..evaluation.formats import best_of
from ..evaluation.report import Report
from ..evaluation.tables import section_fingerprint, time_per_network
from ..writing import write_bytes


# Okabe and Ito's colours, which are distinct for colour-blind readers.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#8c8c8c"
COLOURS = {"nnit": BLUE, "selected": GREEN, "ghn": ORANGE, "nested": PURPLE}
WIDTHS_LABEL = "units in each of two hidden layers\nbands: 95% Student's t interval over networks, at least Wilson's"
DEPTHS_LABEL = "hidden layers\nbands: 95% Student's t interval over architectures, at least Wilson's"
STEPS_LABEL = (
    "denoising steps, and time per network\n"
    "n: architectures. Bars: 95% Student's t interval over architectures, at least Wilson's"
)
REGION_LABELS = {
    "seen": "seen in\ntraining",
    "held_out_combinations": "held-out\ncombinations",
    "held_out_widths": "held-out\nwidths",
    "deeper": "deeper\n(depth {depth})",
    "wider": "wider\n(over {width})",
}
# Success that arXiv 2603.00180 reports for the best 10 of 100 networks on unseen architectures. `stackcube-easy` is
# left out, because the paper does not define it.
PAPER_PERCENT = {"pushcube": 85, "pickcube": 85}
# Highest lower end of the axis of scores, in percent.
HIGHEST_BOTTOM = 90
SCORE_LABELS = {
    "nnit": "NNiT",
    "nnit_ensemble": "ensemble of NNiT networks",
    "ghn": "GHN",
    "ghn_ensemble": "ensemble of GHN networks",
    "ghn_interpolation": "average of two GHN networks",
    "ghn_small_noise": "GHN + noise of 0.2 sigma",
    "ghn_same_distance_noise": "GHN + noise as far as NNiT",
}
STYLE: Any = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


def default_score_name(settings: dict[str, Any]) -> str:
    """Label of the axis of scores: the metric, on test data or of rollouts."""
    return f"test {settings['metric']}" if settings["sample_name"] == "sample" else f"success on {settings['task']}"


def region_label(region: str, report: dict[str, Any]) -> str:
    grid = report["settings"]["training_grid"]
    return REGION_LABELS[region].format(depth=grid["max_depth"] + 1, width=grid["max_width"])


def error_bars(summary: dict[str, Any]) -> list[list[float]]:
    """Lengths of the bars below and above the mean, in percent."""
    low, high = summary.get("interval", (summary["mean"], summary["mean"]))
    # rounding may put the mean outside an interval of no width
    return [[100 * max(summary["mean"] - low, 0.0)], [100 * max(high - summary["mean"], 0.0)]]


def draw_regions(section: dict[str, Any], report: dict[str, Any], score_name: str) -> Figure:
    """Scores per region, as in the paper: all networks, the best ones, those of the GHN, and nested slices."""
    kinds = {
        "nnit": ("o", "NNiT, mean of all networks"),
        "selected": ("^", f"NNiT, {best_of(report['settings'])} (chosen on validation)"),
        "ghn": ("s", "GHN, mean of all networks"),
        "nested": ("D", "nested slices"),
    }
    if not any("nested" in part for part in section.values()):
        del kinds["nested"]
    offsets = [0.22 * (number - (len(kinds) - 1) / 2) for number in range(len(kinds))]
    regions = [region for region in REGION_LABELS if region in section]
    figure = Figure(figsize=(8, 4.2))
    axes = figure.subplots()
    # a column per region
    for column, region in enumerate(regions):
        for offset, (name, (marker, label)) in zip(offsets, kinds.items(), strict=True):
            if name != "nested" or "nested" in section[region]:
                draw_kind(axes, section[region], name, column + offset, marker, label if column == 0 else None)
    # mark the regions never trained on, with the paper's result
    first_unseen = regions.index("seen") + 1 if "seen" in regions else 0
    if first_unseen < len(regions):
        axes.axvspan(first_unseen - 0.5, len(regions) - 0.5, color=GREY, alpha=0.1, linewidth=0)
        axes.annotate("never trained on", (0.99, 1.01), xycoords="axes fraction", ha="right", color="#555555")
        percent = PAPER_PERCENT.get(report["settings"]["task"])
        if percent is not None:
            span = [first_unseen - 0.5, len(regions) - 0.5]
            label = f"arXiv 2603.00180: over {percent}%, best 10 of 100"
            axes.plot(span, [percent] * 2, "--", color=GREY, label=label)
    # axes and legend
    labels = [f"{region_label(region, report)}\nn = {len(section[region]['architectures'])}" for region in regions]
    axes.set_xticks(range(len(regions)), labels)
    axes.set(xlim=(-0.5, len(regions) - 0.5), ylabel=f"{score_name} (%)")
    # a wider range than that of the intervals, if everything succeeds
    axes.set_ylim(bottom=min(axes.get_ylim()[0], HIGHEST_BOTTOM))
    axes.set_xlabel(
        "n: architectures. Dashes: mean of each. Bars: 95% Student's t interval over architectures, at least Wilson's",
        fontsize=8.5,
    )
    axes.grid(axis="x", visible=False)
    num_labels = len(axes.get_legend_handles_labels()[1])
    figure.legend(loc="outside lower center", ncols=3 if num_labels == 3 else 2, fontsize=9)
    return figure


def draw_kind(axes: Axes, part: dict[str, Any], name: str, x: float, marker: str, label: str | None) -> None:
    """One kind of network in one region: a dash for each architecture, their mean and its interval."""

    def of(row: dict[str, Any]) -> dict[str, Any]:
        return row["nnit"]["selected"] if name == "selected" else row[name]

    means = [100 * of(row)["mean"] for row in part["architectures"]]
    axes.plot([x] * len(means), means, "_", color=COLOURS[name], alpha=0.45)
    axes.errorbar(
        x + 0.07,
        100 * of(part)["mean"],
        error_bars(of(part)),
        fmt=marker,
        color=COLOURS[name],
        capsize=3,
        label=label,
    )


def draw_widths(section: dict[str, Any], report: dict[str, Any], score_name: str) -> Figure:
    """Scores against the width of two equal hidden layers, also narrower and wider than those trained on."""
    parts = sorted(section.values(), key=lambda part: part["hidden_sizes"])
    widths = [part["hidden_sizes"][0] for part in parts]
    grid = report["settings"]["training_grid"]
    span = (grid["min_width"], grid["max_width"])
    # a second panel without the narrower widths, for a closer view of the rest
    shown = [part for part in parts if part["region"] != "narrower"]
    num_panels = 2 if 0 < len(shown) < len(parts) else 1
    figure = Figure(figsize=(10.5 if num_panels == 2 else 6.5, 3.8))
    all_axes = figure.subplots(1, num_panels, squeeze=False)[0]
    for axes in all_axes:
        # means and intervals
        for name, marker, label in (("nnit", "o", "NNiT"), ("ghn", "s", "GHN")):
            low, high = np.transpose([part[name]["interval"] for part in parts]) * 100
            axes.fill_between(widths, low, high, color=COLOURS[name], alpha=0.25, linewidth=0)
            means = [100 * part[name]["mean"] for part in parts]
            axes.plot(widths, means, marker + "-", color=COLOURS[name], markersize=4, label=label)
        # widths trained on, and the axis
        axes.axvspan(*span, color=GREY, alpha=0.12, linewidth=0, label=f"widths trained on, {span[0]} to {span[1]}")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator([2**power for power in range(2, 9)]))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(WIDTHS_LABEL)
    # limits of the second panel, labels and legend
    if num_panels == 2:
        bounds = [bound for part in shown for name in ("nnit", "ghn") for bound in part[name]["interval"]]
        all_axes[1].set(xlim=(0.95 * span[0], 1.05 * widths[-1]), ylim=(100 * min(bounds) - 1, 100 * max(bounds) + 1))
    all_axes[0].set_ylabel(f"{score_name}, mean (%)")
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def draw_depths(section: dict[str, Any], report: dict[str, Any], score_name: str) -> Figure:
    """Scores against the number of hidden layers, also beyond those trained on."""
    parts = sorted(section.values(), key=lambda part: part["depth"])
    figure = Figure(figsize=(8, 3.8))
    axes = figure.subplots()
    for name, marker, label in (("nnit", "o", "NNiT"), ("ghn", "s", "GHN"), ("nested", "D", "nested slices")):
        measured = [part for part in parts if name in part]
        if not measured:
            continue
        depths = [part["depth"] for part in measured]
        # a single architecture has no interval
        bounds = [part[name].get("interval", [part[name]["mean"]] * 2) for part in measured]
        axes.fill_between(depths, *np.transpose(bounds) * 100, color=COLOURS[name], alpha=0.25, linewidth=0)
        means = [100 * part[name]["mean"] for part in measured]
        axes.plot(depths, means, marker + "-", color=COLOURS[name], markersize=4, label=label)
    # depths trained on
    trained = [part["depth"] for part in parts if part["is_trained"]]
    if trained:
        label = f"depths trained on, {trained[0]} to {trained[-1]}"
        axes.axvspan(trained[0] - 0.3, trained[-1] + 0.3, color=GREY, alpha=0.12, linewidth=0, label=label)
    axes.set_xticks([part["depth"] for part in parts])
    axes.set_ylim(bottom=min(axes.get_ylim()[0], HIGHEST_BOTTOM))
    axes.set(xlabel=DEPTHS_LABEL, ylabel=f"{score_name}, mean (%)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_unconditional(section: dict[str, Any], report: dict[str, Any], score_name: str) -> Figure:
    """Architectures that the model chooses without a request, and their scores."""
    part = section["free"]
    figure = Figure(figsize=(10.5, 3.4))
    depth_axes, size_axes, score_axes = figure.subplots(1, 3)
    # depths
    grid = part["training_grid"]
    depths = sorted({*part["depths"], *grid["depths"]})
    for offset, depth_shares, colour in ((-0.2, part["depths"], BLUE), (0.2, grid["depths"], GREY)):
        shares = [100 * depth_shares.get(depth, 0) for depth in depths]
        depth_axes.bar(np.arange(len(depths)) + offset, shares, width=0.38, color=colour)
    depth_axes.set_xticks(range(len(depths)), depths)
    depth_axes.set(xlabel="hidden layers", ylabel="share of networks (%)")
    depth_axes.grid(axis="x", visible=False)

    # parameter counts
    percentiles = np.linspace(0, 100, len(grid["num_parameters"]))
    size_axes.plot(part["num_parameters"], percentiles, color=BLUE, label=f"NNiT, {part['num_networks']} networks")
    size_axes.plot(grid["num_parameters"], percentiles, "--", color=GREY, label="training grid")
    size_axes.set(xlabel="parameters", ylabel="share of networks up to this (%)")
    for axes in (size_axes, score_axes):
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter("{x:,.0f}")

    # scores
    networks = part["networks"]
    score_axes.plot(
        networks["num_parameters"], 100 * np.array(networks["score"]), "o", color=BLUE, alpha=0.5, markersize=4
    )
    score_axes.axhline(100 * part["mean"], color=BLUE, linewidth=1)
    score_axes.set(xlabel="parameters", ylabel=f"{score_name} (%)")
    figure.legend(*size_axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def draw_novelty(section: dict[str, Any], report: dict[str, Any], score_name: str) -> Figure:
    """Distances of generated networks, and the scores of simpler ways to a new network."""
    parts = list(section.values())
    figure = Figure(figsize=(10.5, 3.8))
    ratio_axes, score_axes = figure.subplots(1, 2, width_ratios=(0.8, 1))
    # distance ratios
    rows = np.arange(len(parts))
    ratios = {"nearest_distance_ratio": ("o", "nearest neighbour"), "mean_distance_ratio": ("D", "pairwise")}
    for offset, (key, (marker, label)) in zip((-0.12, 0.12), ratios.items()):
        colour = BLUE if key == "nearest_distance_ratio" else GREEN
        ratio_axes.plot([part[key] for part in parts], rows + offset, marker, color=colour, label=label)
    ratio_axes.axvline(1, color=GREY, linewidth=1, label="new GHN networks")
    ratio_axes.set_yticks(rows, [str(part["hidden_sizes"]) for part in parts])
    largest = max(part[key] for part in parts for key in ratios)
    ratio_axes.set(xlim=(0, 1.1 * max(largest, 1)), ylim=(len(parts) - 0.5, -0.5))
    ratio_axes.set_xlabel("distance ratio: generated networks\nrelative to new GHN networks")
    figure.legend(*ratio_axes.get_legend_handles_labels(), loc="outside lower left", ncols=3)

    # scores of all kinds of networks
    names = [name for name in SCORE_LABELS if all(name in part["scores"] for part in parts)]
    for row, name in enumerate(names):
        means = [100 * part["scores"][name]["mean"] for part in parts]
        colour = BLUE if name.startswith("nnit") else ORANGE
        score_axes.plot(means, [row] * len(means), "o", color=colour, alpha=0.5)
        score_axes.plot([np.mean(means)] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2.5)
    score_axes.set_yticks(range(len(names)), [SCORE_LABELS[name] for name in names])
    score_axes.set(ylim=(len(names) - 0.5, -0.5))
    score_axes.set_xlabel(f"{score_name} (%)\ndots: mean of each of these architectures")
    return figure


def draw_steps(section: dict[str, Any], report: dict[str, Any], score_name: str) -> Figure:
    """Scores and generation times against the number of denoising steps."""
    # a line per region
    parts = sorted(section.items(), key=lambda item: int(item[0]))
    steps = [int(name) for name, _ in parts]
    figure = Figure(figsize=(8, 3.8))
    axes = figure.subplots()
    for region, marker, colour in (("held_out_combinations", "o", BLUE), ("held_out_widths", "D", GREEN)):
        summaries = [part[region] for _, part in parts if region in part]
        if not summaries:  # a small grid may have no such architectures
            continue
        bars = np.concatenate([error_bars(summary) for summary in summaries], axis=1)
        axes.errorbar(
            steps,
            [100 * summary["mean"] for summary in summaries],
            bars,
            fmt=marker + "-",
            color=colour,
            capsize=3,
            label=f"{REGION_LABELS[region]} (n = {summaries[0]['num_architectures']})".replace("\n", " "),
        )
    # axes, with times
    axes.set_xscale("log")
    milliseconds = [1000 * time_per_network(part) for _, part in parts]
    axes.set_xticks(steps, [f"{count}\n{time:.0f} ms" for count, time in zip(steps, milliseconds)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=STEPS_LABEL, ylabel=f"{score_name}, mean (%)")
    axes.legend(loc="lower right")
    return figure


DRAWINGS: dict[str, Callable[[dict[str, Any], dict[str, Any], str], Figure]] = {
    "regions": draw_regions,
    "widths": draw_widths,
    "depths": draw_depths,
    "unconditional": draw_unconditional,
    "novelty": draw_novelty,
    "steps": draw_steps,
}
# Parts that a picture needs.
NEEDED_PARTS = {"unconditional": ("free",)}


def save(figure: Figure, path: Path, fingerprint: str) -> None:
    """Saves a picture with a palette of 256 colours, a third of the size, and the fingerprint of its section."""
    pixels = io.BytesIO()
    figure.savefig(pixels, format="png")
    source = PngInfo()
    source.add_text("Source", fingerprint)
    packed = io.BytesIO()
    Image.open(pixels).convert("RGB").quantize(256).save(packed, "PNG", optimize=True, pnginfo=source)
    write_bytes(path, packed.getvalue())


def draw_pictures(report: Report, output_dir: str | Path, score_name: str | None = None) -> list[Path]:
    """Draws every section of an evaluation that is there and complete: `regions.png`, `widths.png`, …

    Parameters:
        report (`Report`): The evaluation.
        output_dir (`str` or `Path`): Folder of the pictures.
        score_name (`str`, *optional*): Label of the axis of scores; the metric of the task by default.

    Returns:
        `list[Path]`: The files written.
    """
    sections: dict[str, Any] = dict(report)
    score_name, written = score_name or default_score_name(report["settings"]), []
    for section, draw in DRAWINGS.items():
        # skip sections that are missing or not complete
        if section not in sections or not all(part in sections[section] for part in NEEDED_PARTS.get(section, ())):
            continue
        path = Path(output_dir) / f"{section}.png"
        with matplotlib.rc_context(STYLE):
            save(draw(sections[section], sections, score_name), path, section_fingerprint(report, section))
        written.append(path)
    return written
