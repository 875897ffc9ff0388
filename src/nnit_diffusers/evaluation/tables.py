"""Tables of an evaluation in Markdown, for model cards."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from ..markdown import markdown_table as table
from .formats import (
    AT_END,
    OF_TEACHER,
    RETURN,
    architecture_name,
    at_end,
    best_of,
    interval_note,
    mean_return,
    of_teacher,
    percent,
    points,
    samples_of,
    with_interval,
)
from .protocol import REGION_NAMES, has_success_at_end
from .report import Report


# What networks come from, and titles of their columns.
NESTED = "Nested slices"
GENERATED = {"nnit": "NNiT, mean of all", "ghn": "GHN, mean of all", "nested": NESTED}
REQUEST_NAMES = {
    "free": "none",
    "max_parameters": "parameter budget",
    "parameter_range": "parameter range",
    "fill_in": "fill in",
}
SCORE_NAMES = {
    "nnit": "NNiT",
    "nnit_ensemble": "NNiT, ensembles",
    "ghn": "GHN",
    "ghn_ensemble": "GHN, ensembles",
    "ghn_interpolation": "GHN, average of two networks",
    "ghn_small_noise": "GHN + noise of 0.2 sigma",
    "ghn_same_distance_noise": "GHN + noise as far as NNiT",
}


def without_empty_columns(header: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str]) -> str:
    """A table without those optional columns that are empty in every row."""
    kept = [
        index for index, name in enumerate(header) if name not in optional or any(row[index] != "-" for row in rows)
    ]
    return table([header[index] for index in kept], [[row[index] for index in kept] for row in rows])


def regions_table(section: dict[str, Any], settings: dict[str, Any]) -> str:
    rows = [
        [
            REGION_NAMES[region],
            str(len(part["architectures"])),
            f"{part['num_networks']:,}",
            with_interval(part["nnit"]),
            percent(part["nnit"]["min"]),
            with_interval(part["nnit"]["selected"]),
            at_end(part["nnit"].get("selected")),
            with_interval(part["ghn"]),
            points(part["nnit_minus_ghn"]),
            with_interval(part["nested"]) if "nested" in part else "-",
            mean_return(part["nnit"]),
            of_teacher(part["nnit"]),
            of_teacher(part["ghn"]),
        ]
        for region, part in section.items()
    ]
    # tasks without episodes have no success at episode end
    header = [
        "Region",
        "Architectures",
        "Networks",
        "NNiT, mean of all",
        "Minimum",
        f"{best_of(settings).capitalize()} (chosen on validation)",
        AT_END,
        "GHN, mean of all",
        "NNiT - GHN, points",
        NESTED,
        RETURN,
        OF_TEACHER,
        f"GHN: {OF_TEACHER.lower()}",
    ]
    return without_empty_columns(header, rows, [AT_END, NESTED, RETURN, OF_TEACHER, f"GHN: {OF_TEACHER.lower()}"])


def regions_caption(settings: dict[str, Any], section: dict[str, Any]) -> str:
    lines = [
        "Minimum is the score of the weakest single network.",
        interval_note("architectures", settings),
        "The difference has a t interval over architectures, or none if it is the same for all of them.",
    ]
    if has_success_at_end(section):
        lines.insert(1, f"{AT_END} is that of the {best_of(settings)}.")
    if any("nested" in part for part in section.values()):
        lines.append(f"{NESTED}: one network of each shape, cut from one network of the largest width.")
    return " ".join(lines)


def direct_table(section: dict[str, Any], settings: dict[str, Any], regions: dict[str, Any]) -> str:
    rows, means = [], []
    for name, part in section.items():
        region, _ = name.split("/")
        generated = _row_of(regions.get(region), part["hidden_sizes"])
        found = [generated[kind]["mean"] if generated and kind in generated else None for kind in GENERATED]
        scores = [part["direct"]["mean"], *found]
        means.append(scores)
        rows.append(
            [
                architecture_name(part["hidden_sizes"]),
                REGION_NAMES[region],
                with_interval(part["direct"]),
                *("-" if score is None else percent(score) for score in found),
                f"{part['training_seconds_per_network']:.1f} s",
            ]
        )
    # means over the same architectures
    columns = ["-" if None in column else percent(statistics.fmean(column)) for column in zip(*means)]
    if any(column != "-" for column in columns[1:]):
        rows.append(["mean", "", *columns, ""])
    header = ["Architecture", "Region", "Trained directly", *GENERATED.values(), "Training time"]
    return without_empty_columns(header, rows, [NESTED])


def _row_of(region: dict[str, Any] | None, hidden_sizes: Sequence[int]) -> dict[str, Any] | None:
    """Row of an architecture in the section `regions`, if it was measured."""
    rows = region["architectures"] if region else []
    return next((row for row in rows if row["hidden_sizes"] == list(hidden_sizes)), None)


def direct_caption(settings: dict[str, Any]) -> str:
    return (
        f"{settings['num_direct_networks']} networks of each architecture, trained directly with Adam for "
        f"{settings['direct_steps']:,} steps from their own seeds. Of each training run, the network that is best on "
        f"validation data is scored, on the same {samples_of(settings)} as generated networks. "
        f"{interval_note('networks', settings)}"
    )


def widths_table(section: dict[str, Any], settings: dict[str, Any]) -> str:
    rows = [
        [
            architecture_name(part["hidden_sizes"]),
            REGION_NAMES[part["region"]],
            with_interval(part["nnit"]),
            with_interval(part["ghn"]),
        ]
        for part in section.values()
    ]
    return table(["Architecture", "Region", "NNiT", "GHN"], rows)


def widths_caption(settings: dict[str, Any]) -> str:
    return (
        f"Two equal hidden layers, {settings['num_width_networks']} networks per row. "
        f"{interval_note('networks', settings)}"
    )


def depths_table(section: dict[str, Any], settings: dict[str, Any]) -> str:
    rows = [
        [
            depth if part["is_trained"] else f"{depth} (never trained on)",
            str(len(part["architectures"])),
            with_interval(part["nnit"]),
            percent(part["nnit"]["min"]),
            with_interval(part["ghn"]),
            with_interval(part["nested"]) if "nested" in part else "-",
        ]
        for depth, part in section.items()
    ]
    return without_empty_columns(["Hidden layers", "Architectures", "NNiT", "Minimum", "GHN", NESTED], rows, [NESTED])


def depths_caption(settings: dict[str, Any]) -> str:
    return (
        f"Widths that were trained on, together or not, and {settings['num_depth_networks']} networks of each "
        "architecture. Minimum is the score of NNiT's weakest single network. "
        f"{interval_note('architectures', settings)}"
    )


def unconditional_table(section: dict[str, Any], settings: dict[str, Any]) -> str:
    rows = []
    for name, part in section.items():
        # the request in words
        request = REQUEST_NAMES[name] + (f" {architecture_name(part['arch'])}" if part["arch"] else "")
        least, most = part["min_parameters"], part["max_parameters"]
        bounds = [f"at least {least:,}"] if least else []
        bounds += [f"at most {most:,}"] if most else []
        rows.append(
            [
                request,
                " and ".join(bounds) or "any",
                with_interval(part),
                with_interval(part["selected"]) if "selected" in part else "-",
                at_end(part.get("selected")),
                f"{part['num_distinct']} of {part['num_networks']}",
                str(part["num_violations"]),
            ]
        )
    best = f"Best {settings['num_selected']} (chosen on validation)"
    header = ["Request", "Parameters", "Mean of all", best, AT_END, "Distinct architectures", "Constraint violations"]
    return without_empty_columns(header, rows, [best, AT_END])


def unconditional_caption(settings: dict[str, Any]) -> str:
    return f"The model generates architecture and weights. {interval_note('networks', settings)}"


def novelty_table(section: dict[str, Any], settings: dict[str, Any]) -> str:
    rows = [
        [
            architecture_name(part["hidden_sizes"]),
            REGION_NAMES[part["region"]],
            f"{part['nearest_distance_ratio']:.2f}",
            f"{part['mean_distance_ratio']:.2f}",
            f"{part['nnit']['participation_ratio']:.1f} / {part['ghn']['participation_ratio']:.1f}",
            *(
                f"{percent(part['nnit'][key])} / {percent(part['ghn'][key])}" if key in part["nnit"] else "-"
                for key in ("nearest_agreement", "mean_agreement")
            ),
        ]
        for part in section.values()
    ]
    # agreement is measured for data sets only
    agreements = ["Agreement with nearest neighbour", "Pairwise agreement"]
    header = [
        "Architecture",
        "Region",
        "Nearest-neighbour distance ratio",
        "Pairwise distance ratio",
        "Effective dimensionality (participation ratio)",
        *agreements,
    ]
    return without_empty_columns(header, rows, agreements)


def novelty_caption(settings: dict[str, Any]) -> str:
    lines = [
        f"Distances between weights of {settings['num_compared_networks']} generated networks, divided by those of "
        "new GHN networks. At 1, a generated network is as far away as a new GHN network. A copy would be at 0.",
        f"The nearest neighbour is searched among {settings['num_references']} networks of the GHN.",
        "Values with a slash are NNiT / GHN.",
    ]
    if settings["sample_name"] == "sample":
        lines.append("Agreement is the share of test samples with the same prediction.")
    return " ".join(lines)


def baselines_table(section: dict[str, Any], settings: dict[str, Any]) -> str:
    rows = [
        [SCORE_NAMES[name], *(percent(part["scores"][name]["mean"]) for part in section.values())]
        for name in SCORE_NAMES
    ]
    return table(["Networks", *(architecture_name(part["hidden_sizes"]) for part in section.values())], rows)


def baselines_caption(settings: dict[str, Any]) -> str:
    return (
        f"Mean score of each kind of network. An ensemble averages the outputs of {settings['num_ensemble']} networks."
    )


def steps_table(section: dict[str, Any], settings: dict[str, Any]) -> str:
    regions = ("held_out_combinations", "held_out_widths")
    rows = [
        [
            steps,
            *(with_interval(part[region]) if region in part else "-" for region in regions),
            f"{1000 * time_per_network(part):.0f} ms",
        ]
        for steps, part in section.items()
    ]
    # a small grid may have no architectures of one region
    names = [REGION_NAMES[region].capitalize() for region in regions]
    return without_empty_columns(["Steps", *names, "Time per network"], rows, names)


def time_per_network(part: dict[str, Any]) -> float:
    """Generation time in seconds of a part of the section `steps`: that of held-out combinations, if there are any."""
    region = "held_out_combinations" if "held_out_combinations" in part else "held_out_widths"
    return part[region]["seconds_per_network"]


def steps_caption(settings: dict[str, Any]) -> str:
    return (
        f"{settings['num_step_architectures']} architectures per region, {settings['num_step_networks']} networks of "
        f"each. {interval_note('architectures', settings)}"
    )


class ReportTable(NamedTuple):
    """A table of a report: its section, how it is made, and the text above it."""

    section: str
    make: Callable[..., str]
    caption: Callable[..., str]


TABLES = {
    "Regions of architectures": ReportTable("regions", regions_table, regions_caption),
    "Networks trained directly": ReportTable("direct", direct_table, direct_caption),
    "Widths": ReportTable("widths", widths_table, widths_caption),
    "Depths": ReportTable("depths", depths_table, depths_caption),
    "Architectures chosen by the model": ReportTable("unconditional", unconditional_table, unconditional_caption),
    "Novelty": ReportTable("novelty", novelty_table, novelty_caption),
    "Simpler ways to a new network": ReportTable("novelty", baselines_table, baselines_caption),
    "Denoising steps": ReportTable("steps", steps_table, steps_caption),
}
# Sections that `figures/plot_evaluation.py` draws, and the alternative texts of their pictures.
PICTURES = {
    "regions": "Scores of NNiT and of its GHN on architectures seen in training and held out",
    "widths": "Scores of NNiT and of its GHN against width",
    "depths": "Scores of NNiT and of its GHN against the number of hidden layers",
    "unconditional": "Architectures that the model chooses without a request, and their scores",
    "novelty": "Distances of generated networks, and scores of simpler ways to a new network",
    "steps": "Scores against denoising steps",
}


def section_fingerprint(report: Report, section: str) -> str:
    """SHA-256 of a section. Stored in its picture, it shows whether the picture is up to date."""
    return hashlib.sha256(json.dumps(dict(report)[section], sort_keys=True).encode()).hexdigest()


def report_tables(report: Report, pictures: Collection[str] = (), folder: str = "") -> str:
    """Tables of all sections of a report, each with its caption.

    The sections named in `pictures` have a picture in `folder`, which is shown above their table.
    """
    sections: dict[str, Any] = dict(report)
    blocks, drawn = [], set()
    for title, (section, make_table, make_caption) in TABLES.items():
        if section not in sections:
            continue
        blocks.append(f"### {title}")
        # two tables can share a section, whose picture is shown once
        if section in pictures and section not in drawn:
            blocks.append(f"![{PICTURES[section]}]({folder}{section}.png)")
            drawn.add(section)
        # networks trained directly stand beside generated ones of the same architectures
        others = [sections.get("regions", {})] if section == "direct" else []
        measured = [sections[section]] if section == "regions" else []
        blocks.append(make_caption(report["settings"], *measured))
        blocks.append(make_table(sections[section], report["settings"], *others))
    return "\n\n".join(blocks)
