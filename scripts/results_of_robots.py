"""The part of docs/results.md about robots."""

from __future__ import annotations

from typing import Any

from results_sources import ROBOTS, evaluation, grid, picture, read, source

from nnit_diffusers import get_task
from nnit_diffusers.cards.robot import what_fails
from nnit_diffusers.evaluation.formats import AT_END, architecture_name, interval_note, percent, with_interval
from nnit_diffusers.evaluation.protocol import REGION_NAMES, protocol
from nnit_diffusers.evaluation.tables import (
    novelty_caption,
    regions_caption,
    regions_table,
    steps_caption,
    unconditional_caption,
    unconditional_table,
)
from nnit_diffusers.markdown import markdown_table


def robot_regions() -> list[str]:
    blocks = ["## Robots", protocol(evaluation("pickcube"))]
    for name, task in ROBOTS.items():
        report = evaluation(task)
        blocks += [
            f"### {name}: regions of architectures",
            f"{get_task(task).description} {grid(report['settings'])}",
            regions_caption(report["settings"], report["regions"]),
            picture(task, "regions"),
            regions_table(report["regions"], report["settings"]),
            "\n".join(f"- {line}" for line in what_fails(report)),
            source(f"nnit/{task}/evaluation.json"),
        ]
    return blocks


def of_robots(section: str) -> dict[str, dict[str, Any]]:
    """One section of the evaluations of all robots, by the name of the task."""
    return {name: read(f"nnit/{task}/evaluation.json").get(section, {}) for name, task in ROBOTS.items()}


def robot_sources() -> str:
    return source(*(f"nnit/{task}/evaluation.json" for task in ROBOTS.values()))


def robot_widths() -> list[str]:
    settings = evaluation("pickcube")["settings"]
    return [
        "### Narrow and wide policies",
        f"NNiT, with the GHN in brackets. Two equal hidden layers, {settings['num_width_networks']} networks per row, "
        f"{settings['num_episodes']} test episodes each. The model cards have the intervals.",
        *(picture(task, "widths") for task in ROBOTS.values()),
        widths_of_tasks_table(of_robots("widths")),
        robot_sources(),
    ]


def widths_of_tasks_table(sections: dict[str, dict[str, Any]]) -> str:
    """Section `widths` of several tasks side by side: NNiT, and the GHN in brackets."""

    def cell(part: dict[str, Any] | None) -> str:
        return f"{percent(part['nnit']['mean'])} ({percent(part['ghn']['mean'])})" if part else "-"

    widths = sorted({width for section in sections.values() for width in section}, key=int)
    rows = [[width, *(cell(section.get(width)) for section in sections.values())] for width in widths]
    return markdown_table(["Units in both layers", *sections], rows)


def robot_tuning() -> list[str]:
    report = read("docs/measurements/robots_tuning.json")
    # policies of the films
    policies = [
        [
            name,
            architecture_name(row["hidden_sizes"]),
            REGION_NAMES[row["region"]],
            *(f"{row[when]} of {row['num_episodes']}" for when in ("before", "after")),
        ]
        for name, task in ROBOTS.items()
        for row in report[task]["policies"]
    ]
    # widths of PickCube
    widths = [
        [architecture_name(row["hidden_sizes"]), percent(row["before"]), percent(row["after"]), percent(row["ghn"])]
        for row in report["pickcube"]["widths"]
    ]
    return [
        "### Effect of the tuning on what networks compute",
        "The training of every robot pipeline ends with a short run with `--function_loss_weight 1`. Each row is one "
        "policy in the same test episodes. The StackCubeEasy pipeline before tuning had also trained for half as many "
        "steps.",
        markdown_table(["Task", "Architecture", "Region", "Successes before", "Successes after"], policies),
        "PickCube with two equal hidden layers, 10 policies per row in 20 test episodes each:",
        markdown_table(["Architecture", "NNiT before", "NNiT after", "GHN"], widths),
        source("docs/measurements/robots_tuning.json"),
    ]


def robot_unconditional() -> list[str]:
    blocks = ["### Architectures chosen by the model", unconditional_caption(evaluation("pickcube")["settings"])]
    for name, task in ROBOTS.items():
        report = evaluation(task)
        blocks += [
            f"{name}:",
            picture(task, "unconditional"),
            unconditional_table(report["unconditional"], report["settings"]),
        ]
    return [*blocks, robot_sources()]


def robot_steps() -> list[str]:
    return [
        "### Denoising steps of robot policies",
        f"Each cell: held-out combinations, then held-out widths. {steps_caption(evaluation('pickcube')['settings'])}",
        *(picture(task, "steps") for task in ROBOTS.values()),
        steps_of_tasks_table(of_robots("steps")),
        robot_sources(),
    ]


def steps_of_tasks_table(sections: dict[str, dict[str, Any]]) -> str:
    """Section `steps` of several tasks side by side: held-out combinations, then held-out widths."""

    def cell(part: dict[str, Any] | None) -> str:
        regions = ("held_out_combinations", "held_out_widths")
        return ", ".join(with_interval(part[region]) for region in regions) if part else "-"

    steps = sorted({step for section in sections.values() for step in section}, key=int)
    rows = [[step, *(cell(section.get(step)) for section in sections.values())] for step in steps]
    return markdown_table(["Steps", *sections], rows)


def robot_novelty() -> list[str]:
    return [
        "### Novelty of robot policies",
        novelty_caption(evaluation("pickcube")["settings"]),
        novelty_of_tasks_table(of_robots("novelty")),
        robot_sources(),
    ]


def novelty_of_tasks_table(sections: dict[str, dict[str, Any]]) -> str:
    """Section `novelty` of several tasks."""
    rows = [
        [
            name,
            architecture_name(part["hidden_sizes"]),
            f"{part['nearest_distance_ratio']:.2f}",
            f"{part['mean_distance_ratio']:.2f}",
            f"{part['nnit']['participation_ratio']:.1f} / {part['ghn']['participation_ratio']:.1f}",
        ]
        for name, section in sections.items()
        for part in section.values()
    ]
    header = ["Task", "Architecture", "Nearest-neighbour distance ratio", "Pairwise distance ratio"]
    return markdown_table([*header, "Effective dimensionality (participation ratio)"], rows)


def stock_stackcube() -> list[str]:
    scores = read("docs/measurements/stackcube_ghn_scores.json")
    # the GHN, by region
    regions = [
        [
            REGION_NAMES[region],
            str(len(part["architectures"])),
            with_interval(part),
            percent(part["min"]),
            percent(part["success_at_end"]),
        ]
        for region, part in scores["regions"].items()
    ]
    # networks trained directly
    direct = read("docs/measurements/stackcube_direct.json")["architectures"]
    trained = [
        [
            architecture_name([int(width) for width in name.split("-")]),
            with_interval({"mean": row["score"], "interval": row["interval"]}),
            str(row["num_episodes"]),
        ]
        for name, row in direct.items()
    ]
    arguments, note = scores["settings"], interval_note("architectures", {"sample_name": "episode"})
    return [
        "### Stock StackCube",
        "`stackcube` is the unchanged StackCube-v1. It has an expert and a recipe, but no pipeline yet. The first "
        f"table is its GHN alone, with {arguments['num_networks']} networks per architecture in "
        f"{arguments['num_episodes']} test episodes each. {note}",
        markdown_table(["Region", "Architectures", "GHN, mean of all", "Minimum", AT_END], regions),
        "Networks trained one by one on the same demonstrations, in validation episodes. Brackets: 95% Wilson "
        "interval over episodes.",
        markdown_table(["Architecture", "Success", "Episodes"], trained),
        source("docs/measurements/stackcube_ghn_scores.json", "docs/measurements/stackcube_direct.json"),
    ]
