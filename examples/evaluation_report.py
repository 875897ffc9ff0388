"""Tables of an evaluation, in Markdown, as the README and the model card have them.

python examples/evaluation_report.py nnit/digits/evaluation.json
"""

import hashlib
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from nnit_diffusers.utils import markdown_table as table


REGION_NAMES = {
    "seen": "seen in training",
    "held_out_combinations": "held-out combinations",
    "held_out_widths": "held-out widths",
    "deeper": "deeper",
    "wider": "wider",
    "narrower": "narrower",
    "shallower": "shallower",
}
JOINT_NAMES = {
    "free": "any",
    "max_parameters": "budget",
    "parameter_range": "range",
    "fill_in": "fill-in",
}
SCORE_NAMES = {
    "nnit": "NNiT",
    "nnit_ensemble": "NNiT, ensembles",
    "ghn": "GHN",
    "ghn_ensemble": "GHN, ensembles",
    "ghn_interpolation": "GHN, mean of two networks",
    "ghn_small_noise": "GHN + noise of 0.2 sigma",
    "ghn_same_distance_noise": "GHN + noise as far as NNiT",
}


# Heads the column of the selected networks' `success_at_end`, which tasks of rollouts have.
AT_END = "at the end"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}%"


def with_interval(summary: dict[str, Any]) -> str:
    low, high = summary["interval"]
    return f"{percent(summary['mean'])} ({100 * low:.1f} to {100 * high:.1f})"


def architecture_name(hidden_sizes: Sequence[int | None]) -> str:
    return "[" + ", ".join(map(str, hidden_sizes)) + "]"


def at_end(selected: dict[str, Any] | None) -> str:
    """Share of the episodes of selected networks whose last step is a success, where it was measured."""
    return percent(selected["success_at_end"]) if selected and "success_at_end" in selected else "-"


def without_empty_columns(header: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str]) -> str:
    """A table without those of the optional columns that say nothing in any row."""
    kept = [
        index for index, name in enumerate(header) if name not in optional or any(row[index] != "-" for row in rows)
    ]
    return table([header[index] for index in kept], [[row[index] for index in kept] for row in rows])


def regions_table(section: dict[str, Any]) -> str:
    rows = []
    for region, part in section.items():
        nnit, ghn, difference = part["nnit"], part["ghn"], part["nnit_minus_ghn"]
        low, high = (100 * bound for bound in difference["interval"])
        # Of a single architecture nothing says how others would differ.
        interval = f" ({low:+.1f} to {high:+.1f})" if len(part["architectures"]) > 1 else ""
        rows.append(
            [
                REGION_NAMES[region],
                with_interval(nnit),
                percent(nnit["min"]),
                with_interval(nnit["selected"]),
                at_end(nnit["selected"]),
                with_interval(ghn),
                f"{100 * difference['mean']:+.1f}{interval}",
                f"{part['num_networks']:,}",
            ]
        )
    header = [
        "Architectures",
        "NNiT, mean",
        "worst",
        "selected",
        AT_END,
        "GHN, mean",
        "NNiT - GHN, points",
        "Networks",
    ]
    return without_empty_columns(header, rows, [AT_END])


def widths_table(section: dict[str, Any]) -> str:
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


def joint_table(section: dict[str, Any]) -> str:
    rows = []
    for name, part in section.items():
        least, most = part["min_parameters"], part["max_parameters"]
        wanted = "any" if part["arch"] is None else architecture_name(part["arch"])
        bounds = [f"at least {least:,}"] if least else []
        bounds += [f"at most {most:,}"] if most else []
        rows.append(
            [
                f"{JOINT_NAMES[name]}: {wanted}",
                " and ".join(bounds) or "-",
                with_interval(part),
                with_interval(part["selected"]) if "selected" in part else "-",
                at_end(part.get("selected")),
                f"{part['num_distinct']} of {part['num_networks']}",
                str(part["num_violations"]),
            ]
        )
    header = ["Asked for", "Parameters", "Mean", "Selected", AT_END, "Distinct architectures", "Requests broken"]
    return without_empty_columns(header, rows, ["Selected", AT_END])


def comparison_table(section: dict[str, Any]) -> str:
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
    header = ["Architecture", "Region", "Nearest, ratio", "Mutual, ratio", "Directions"]
    return table([*header, "Agreement with nearest", "Mutual agreement"], rows)


def baselines_table(section: dict[str, Any]) -> str:
    rows = [
        [SCORE_NAMES[name], *(percent(part["scores"][name]["mean"]) for part in section.values())]
        for name in SCORE_NAMES
    ]
    return table(["Mean", *(architecture_name(part["hidden_sizes"]) for part in section.values())], rows)


def steps_table(section: dict[str, Any]) -> str:
    rows = [
        [
            steps,
            with_interval(part["held_out_combinations"]),
            with_interval(part["held_out_widths"]),
            f"{1000 * part['held_out_combinations']['seconds_per_network']:.0f} ms",
        ]
        for steps, part in section.items()
    ]
    return table(["Steps", "Held-out combinations", "Held-out widths", "Time a network"], rows)


TABLES = {
    "Architectures": ("regions", regions_table),
    "Widths": ("widths", widths_table),
    "Architectures chosen by the model": ("joint", joint_table),
    "Against networks of the GHN: distance, variety, agreement (NNiT / GHN)": (
        "comparison",
        comparison_table,
    ),
    "Simpler ways to a new network": ("comparison", baselines_table),
    "Denoising steps": ("steps", steps_table),
}


def widths_of_tasks_table(sections: dict[str, dict[str, Any]]) -> str:
    """Section `widths` of several tasks beside each other: NNiT, and the GHN in brackets."""

    def cell(part: dict[str, Any] | None) -> str:
        return f"{percent(part['nnit']['mean'])} ({percent(part['ghn']['mean'])})" if part else "-"

    widths = sorted({width for section in sections.values() for width in section}, key=int)
    rows = [[width, *(cell(section.get(width)) for section in sections.values())] for width in widths]
    return table(["Units in both layers", *sections], rows)


def steps_of_tasks_table(sections: dict[str, dict[str, Any]]) -> str:
    """Section `steps` of several tasks beside each other: held-out combinations, and held-out widths."""

    def cell(part: dict[str, Any] | None) -> str:
        regions = ("held_out_combinations", "held_out_widths")
        return ", ".join(percent(part[region]["mean"]) for region in regions) if part else "-"

    steps = sorted({step for section in sections.values() for step in section}, key=int)
    rows = [[step, *(cell(section.get(step)) for section in sections.values())] for step in steps]
    return table(["Steps", *sections], rows)


# Sections that `figures/plot_evaluation.py` draws, and what their pictures show.
PICTURES = {
    "regions": "Scores on architectures seen and never seen, of NNiT and of the GHN it learned from",
    "widths": "Scores against width, of NNiT and of the GHN it learned from",
    "joint": "Architectures that the model chooses when nothing is asked for, and how they score",
    "comparison": "Distances of generated networks, and scores of simpler ways to a new one",
    "steps": "Scores against denoising steps",
}


def section_fingerprint(report: dict[str, Any], section: str) -> str:
    """What a picture of a section is marked with, to tell whether it was drawn from these figures."""
    return hashlib.sha256(json.dumps(report[section], sort_keys=True).encode()).hexdigest()


def report_tables(report: dict[str, Any], pictures: Collection[str] = ()) -> str:
    """Tables of every section that the report has, under the pictures of those that have one beside it."""
    blocks, drawn = [], set()
    for title, (section, make_table) in TABLES.items():
        if section not in report:
            continue
        blocks.append(f"### {title}")
        if section in pictures and section not in drawn:
            blocks.append(f"![{PICTURES[section]}]({section}.png)")
            drawn.add(section)
        blocks.append(make_table(report[section]))
    return "\n\n".join(blocks)


if __name__ == "__main__":
    print(report_tables(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
