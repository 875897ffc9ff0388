"""Writes docs/results.md: every table of results, generated from the JSON files of this repository.

    python scripts/write_results.py --output_path docs/results.md

`--readme_table` prints the compact table of the README instead. Nothing is measured here.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from evaluation_report import (
    AT_END,
    PICTURES,
    REGION_NAMES,
    architecture_name,
    best_of,
    interval_note,
    novelty_caption,
    percent,
    protocol,
    regions_caption,
    regions_table,
    report_tables,
    steps_caption,
    unconditional_caption,
    unconditional_table,
    with_interval,
)
from robot_card import DEFINITIONS, what_fails

from nnit_diffusers.markdown import markdown_table
from nnit_diffusers.writing import write_bytes


ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "examples" / "benchmarks"))

ROBOTS = {"PickCube": "pickcube", "PushCube": "pushcube", "StackCubeEasy": "stackcube-easy"}
# Success that arXiv 2603.00180 reports for the best 10 of 100 networks on unseen architectures.
PAPER_RESULTS = {
    "PickCube": "> 85%",
    "PushCube": "> 85%",
    "StackCubeEasy": "> 85% (definition unknown)",
    "Digits": "-",
}
# Comment in the README right before the table, by which a test finds it.
README_MARKER = "<!-- results table -->"


@dataclass
class Arguments:
    """Writes docs/results.md, or prints the table of the README."""

    output_path: str = "docs/results.md"
    """Markdown file to write."""
    readme_table: bool = False
    """Print the table of the README, and write nothing."""


def read(path: str) -> dict[str, Any]:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def evaluation(task: str) -> dict[str, Any]:
    return read(f"nnit/{task}/evaluation.json")


def source(*paths: str) -> str:
    """Links to the JSON files behind a table."""
    links = [f"[{path}](../{path})" for path in paths]
    return f"Source: {', '.join(links)}."


def picture(task: str, section: str) -> str:
    return f"![{PICTURES[section]}: {task}](../nnit/{task}/{section}.png)"


# The table of the README.


def readme_table() -> str:
    """One row per task: both held-out regions, the best networks, the GHN alone, and the paper's result."""
    rows = []
    for name, task in {**ROBOTS, "Digits": "digits"}.items():
        regions = evaluation(task)["regions"]
        held_out = [regions[region] for region in ("held_out_combinations", "held_out_widths")]
        rows.append(
            [
                name,
                *(with_interval(part["nnit"]) for part in held_out),
                percent(held_out[0]["nnit"]["selected"]["mean"]),
                ", ".join(percent(part["ghn"]["mean"]) for part in held_out),
                PAPER_RESULTS[name],
                " + ".join(str(len(part["architectures"])) for part in held_out),
            ]
        )
    # columns
    best = best_of(evaluation("digits")["settings"])
    header = [
        "Task",
        "Held-out combinations",
        "Held-out widths",
        f"{best.capitalize()}, held-out combinations",
        "GHN alone (same regions)",
        f"Paper, {best}",
        "Architectures",
    ]
    return markdown_table(header, rows)


# Robots.


def grid(settings: dict[str, Any]) -> str:
    """The architectures that a pipeline was trained on, in words."""
    sizes = settings["training_grid"]
    return (
        f"Trained on {sizes['min_depth']} to {sizes['max_depth']} hidden layers of {sizes['min_width']} to "
        f"{sizes['max_width']} units."
    )


def robot_regions() -> list[str]:
    blocks = ["## Robots", protocol(evaluation("pickcube"))]
    for name, task in ROBOTS.items():
        report = evaluation(task)
        blocks += [
            f"### {name}: regions of architectures",
            " ".join(filter(None, [DEFINITIONS.get(task), grid(report["settings"])])),
            regions_caption(report["settings"]),
            picture(task, "regions"),
            regions_table(report["regions"], report["settings"]),
            "\n".join(f"- {line}" for line in what_fails(report)),
            source(f"nnit/{task}/evaluation.json"),
        ]
    return blocks


def of_robots(section: str) -> dict[str, dict[str, Any]]:
    """One section of the evaluations of all robots, by the name of the task."""
    return {name: evaluation(task).get(section, {}) for name, task in ROBOTS.items()}


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
    arguments = scores["settings"]
    return [
        "### Stock StackCube",
        "`stackcube` is the unchanged StackCube-v1. It has an expert and a recipe, but no pipeline yet. The first "
        f"table is its GHN alone, with {arguments['num_networks']} networks per architecture in "
        f"{arguments['num_episodes']} test episodes each. {interval_note('architectures', arguments)}",
        markdown_table(["Region", "Architectures", "GHN, mean of all", "Minimum", AT_END], regions),
        "Networks trained one by one on the same demonstrations, in validation episodes. Brackets: 95% Wilson "
        "interval over episodes.",
        markdown_table(["Architecture", "Success", "Episodes"], trained),
        source("docs/measurements/stackcube_ghn_scores.json", "docs/measurements/stackcube_direct.json"),
    ]


# Digits.


def digits() -> list[str]:
    report = evaluation("digits")
    return [
        "## Digits",
        "Handwritten digits of scikit-learn's `load_digits`: 1,797 scans of 8 x 8 pixels, 64 inputs, 10 classes. "
        + grid(report["settings"]),
        protocol(report),
        report_tables(report, PICTURES, "../nnit/digits/"),
        source("nnit/digits/evaluation.json"),
    ]


# Network search.


def searches() -> list[str]:
    blocks = [
        "## Network search",
        "Result of `nnit search`: the best network of each size, confirmed on test episodes. The winner is the "
        "smallest whose lower bound reaches the target. Brackets: 95% Wilson interval over episodes.",
    ]
    for name, task in (("PickCube", "pickcube"), ("Digits", "digits")):
        path = f"docs/measurements/{task}_search.json"
        result = read(path)["result"]
        blocks += [f"{name}, target {result['target']:.0%}:", search_table(result), source(path)]
    # confirmation of the PickCube winner on new episodes
    path = "docs/measurements/pickcube_search_winner.json"
    (winner,) = read(path)["networks"]
    blocks += [
        f"The PickCube winner {architecture_name(winner['architecture']['hidden_sizes'])} on new seeds: "
        f"{winner['num_successes']} of {winner['num_episodes']} episodes.",
        source(path),
    ]
    return blocks


def search_table(result: dict[str, Any]) -> str:
    rows = []
    for candidate in result["finalists"]:
        confirmed = candidate["confirmation"]
        rows.append(
            [
                architecture_name(candidate["architecture"]["hidden_sizes"]),
                f"{candidate['num_parameters']:,}",
                f"{candidate['latency_us']:.0f} µs",
                with_interval({"mean": confirmed["score"], "interval": confirmed["confidence_interval"]}),
                str(confirmed["num_episodes"]),
                "winner" if candidate["name"] == result["winner"] else "-",
            ]
        )
    return markdown_table(["Network", "Parameters", "Latency per call", "Score", "Episodes", ""], rows)


# Speed.


def speed() -> list[str]:
    import compare_devices
    from benchmark_generation import batches_table, one_network_table, other_lines

    blocks = ["## Speed", "Two cores of an AMD EPYC server without a GPU, unless stated otherwise."]
    for name, task in (("Digits", "digits"), ("PickCube", "pickcube")):
        report = read(f"nnit/{task}/benchmark.json")
        arguments = report["arguments"]
        architecture = architecture_name(arguments["hidden_sizes"])
        blocks += [
            f"### {name}: `{architecture}` networks",
            f"Time to generate one network, and to train one with Adam to the same validation score (median of "
            f"{len(arguments['sgd_seeds'])} seeds). {SPEED_NOTES[task]}",
            one_network_table(report),
            f"Generation in batches, {arguments['steps'][-1]} denoising steps:",
            batches_table(report),
            other_lines(report),
            source(f"nnit/{task}/benchmark.json"),
        ]
    # GPU
    path = "docs/measurements/pickcube_devices.json"
    return [
        *filter(None, blocks),
        "### GPU",
        "PickCube with the weights before tuning. The last column of the first table compares the weights with those "
        "of the first row, from the same noise.",
        compare_devices.report_tables(read(path)),
        source(path),
    ]


# Conditions of the benchmarks that their JSON does not record.
SPEED_NOTES = {
    "digits": "The test suite ran at the same time: the ratios are valid, the absolute times are too long.",
    "pickcube": "Training is imitation of the demonstrations that the GHN was trained on. A range of training times "
    "lies between two evaluations. Brackets: 95% Student's t interval over the scored networks, never narrower than "
    "Wilson's interval over all episodes.",
}


def results() -> str:
    """The content of docs/results.md."""
    blocks = [
        "# Results",
        "<!-- Written by scripts/write_results.py, part of `make figures`: do not edit. -->",
        "All tables are generated from the JSON files named below them, which hold commands, seeds and counts. NNiT "
        "is the mean of all generated networks, with none left out. GHN is the Graph HyperNetwork that the "
        "transformer learned from, scored on the same architectures.",
        "| Region | Architectures |\n| --- | --- |\n"
        "| seen in training | widths and combinations of the training data |\n"
        "| held-out combinations | widths of the training data in combinations never trained on |\n"
        "| held-out widths | at least one width never trained on |\n"
        "| deeper | more hidden layers than any trained network |\n"
        "| wider | at least one layer wider than in any trained network |",
        # robots
        *robot_regions(),
        *robot_widths(),
        *robot_tuning(),
        *robot_unconditional(),
        *robot_steps(),
        *robot_novelty(),
        *stock_stackcube(),
        # digits, network search, speed
        *digits(),
        *searches(),
        *speed(),
    ]
    return "\n\n".join(blocks) + "\n"


def main(arguments: Arguments) -> None:
    if arguments.readme_table:
        print(f"{README_MARKER}\n{readme_table()}")
    else:
        write_bytes(arguments.output_path, results().encode())
        print(f"Wrote {arguments.output_path}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
