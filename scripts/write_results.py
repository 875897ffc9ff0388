"""Writes docs/results.md: every table of results, generated from the JSON files of this repository.

    python scripts/write_results.py --output_path docs/results.md

`--readme_table` prints the compact tables of the README instead. Nothing is measured here.
"""

import statistics
import sys
from dataclasses import dataclass
from typing import Any

import results_of_own_problems as own
import results_of_robots as robots
import results_of_sizes
import tyro
from results_sources import ROBOTS, ROOT, evaluation, grid, read, source

from nnit_diffusers.evaluation.formats import architecture_name, best_of, interval_note, percent, with_interval
from nnit_diffusers.evaluation.protocol import protocol
from nnit_diffusers.evaluation.tables import PICTURES, report_tables
from nnit_diffusers.markdown import markdown_table
from nnit_diffusers.writing import write_bytes


sys.path.append(str(ROOT / "benchmarks"))

# Success that arXiv 2603.00180 reports for the best 10 of 100 networks on unseen architectures.
PAPER_RESULTS = {
    "PickCube": "> 85%",
    "PushCube": "> 85%",
    "StackCubeEasy": "> 85% (definition unknown)",
    "Digits": "-",
    "MNIST": "96.1% (selection unknown)",
}
# Comments in the README right before its tables, by which tests find them.
README_MARKER = "<!-- results table -->"
SIZES_MARKER = "<!-- sizes table -->"


@dataclass
class Arguments:
    """Writes docs/results.md, or prints the tables of the README."""

    output_path: str = "docs/results.md"
    """Markdown file to write."""
    readme_table: bool = False
    """Print the tables of the README, and write nothing."""


# The table of the README.


def readme_table() -> str:
    """One row per task: both held-out regions, the best networks, the GHN alone, and the paper's result."""
    rows, best = [], best_of(evaluation("pickcube")["settings"])
    for name, task in {**ROBOTS, "Digits": "digits", "MNIST": "mnist"}.items():
        regions, of_task = evaluation(task)["regions"], best_of(evaluation(task)["settings"])
        held_out = [regions[region] for region in ("held_out_combinations", "held_out_widths")]
        rows.append(
            [
                name,
                *(with_interval(part["nnit"]) for part in held_out),
                percent(held_out[0]["nnit"]["selected"]["mean"]) + ("" if of_task == best else f" ({of_task})"),
                ", ".join(percent(part["ghn"]["mean"]) for part in held_out),
                PAPER_RESULTS[name],
                " + ".join(str(len(part["architectures"])) for part in held_out),
            ]
        )
    # columns
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


# Digits.


def _widest(networks: list[dict[str, Any]]) -> list[str]:
    """Names of the architectures of these networks, each once."""
    return list(dict.fromkeys(f"`{architecture_name(row['architecture']['hidden_sizes'])}`" for row in networks))


def digits() -> list[str]:
    report, wide = evaluation("digits"), read("docs/measurements/digits_1024.json")
    return [
        "## Digits",
        "Handwritten digits of scikit-learn's `load_digits`: 1,797 scans of 8 x 8 pixels, 64 inputs, 10 classes. "
        + grid(report["settings"]),
        protocol(report),
        report_tables(report, PICTURES, "../nnit/digits/"),
        "Two to four times as wide as in training, 5 networks of each: "
        f"{', '.join(_widest(wide['networks']))}. Of all of them, the mean is {percent(wide['mean_score'])} and the "
        f"minimum {percent(wide['min_score'])}.",
        source("nnit/digits/evaluation.json", "docs/measurements/digits_1024.json"),
    ]


def mnist() -> list[str]:
    report = evaluation("mnist")
    return [
        "## MNIST",
        "The official data: 60,000 images of 28 x 28 pixels, the last 5,000 of them for validation, and the official "
        f"test set of 10,000. {grid(report['settings'])}",
        protocol(report),
        report_tables(report, PICTURES, "../nnit/mnist/"),
        source("nnit/mnist/evaluation.json"),
    ]


# Presets of `nnit train`.


def presets() -> list[str]:
    path = "docs/measurements/presets_small.json"
    report = read(path)
    blocks = [
        "## `nnit train --preset small`",
        "From a task to a published folder, on two CPU cores without a GPU. The time is that of the command, with its "
        "evaluation. The last three columns are means over the same held-out architectures, for which three networks "
        f"each were trained directly as well. {interval_note('architectures', {'sample_name': 'sample'})}",
    ]
    rows = []
    for name, run in report["tasks"].items():
        evaluation = run["evaluation"]
        regions, direct = evaluation["regions"], list(evaluation["direct"].values())
        same = [
            row
            for part in direct
            for row in regions[part["region"]]["architectures"]
            if row["hidden_sizes"] == part["hidden_sizes"]
        ]
        rows.append(
            [
                name.rpartition(":")[2],
                f"{run['seconds'] / 60:.1f} min",
                *(with_interval(regions[region]["nnit"]) for region in ("held_out_combinations", "held_out_widths")),
                percent(regions["held_out_widths"]["nnit"]["min"]),
                percent(statistics.fmean(row["ghn"]["mean"] for row in same)),
                percent(statistics.fmean(row["nnit"]["mean"] for row in same)),
                percent(statistics.fmean(part["direct"]["mean"] for part in direct)),
            ]
        )
    header = ["Task", "Time", "Held-out combinations", "Held-out widths", "Minimum there"]
    header += ["GHN, same architectures", "NNiT, same architectures", "Trained directly"]
    return [*blocks, markdown_table(header, rows), source(path)]


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
    "digits": "Two cores of an Intel Xeon server.",
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
        *robots.robot_regions(),
        *robots.robot_widths(),
        *robots.robot_tuning(),
        *robots.robot_unconditional(),
        *robots.robot_steps(),
        *robots.robot_novelty(),
        *robots.stock_stackcube(),
        # digits, problems of users, presets, network search, speed
        *digits(),
        *mnist(),
        *own.own_problems(),
        *presets(),
        *results_of_sizes.sizes(),
        *searches(),
        *speed(),
    ]
    return "\n\n".join(blocks) + "\n"


def main(arguments: Arguments) -> None:
    if arguments.readme_table:
        print(f"{SIZES_MARKER}\n{results_of_sizes.sizes_table()}\n\n{README_MARKER}\n{readme_table()}")
    else:
        write_bytes(arguments.output_path, results().encode())
        print(f"Wrote {arguments.output_path}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
