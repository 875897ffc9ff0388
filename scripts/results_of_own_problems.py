"""The part of docs/results.md about problems that are trained with one command: tables, simulators, recordings."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from results_sources import ROOT, grid, read, source

from nnit_diffusers.evaluation.formats import interval_note, percent, with_interval
from nnit_diffusers.evaluation.tables import (
    direct_caption,
    direct_table,
    regions_caption,
    regions_table,
)
from nnit_diffusers.markdown import markdown_table


HELD_OUT = ("held_out_combinations", "held_out_widths")
PULL_CUBE = {"pd_joint_delta_pos": "changes of joint positions", "pd_joint_pos": "joint positions"}


def own_problems() -> list[str]:
    """What has been measured so far."""
    parts = {
        "own_tables.json": own_tables,
        "half_cheetah/evaluation.json": half_cheetah,
        "pull_cube_pd_joint_delta_pos/evaluation.json": pull_cube,
        "recorded_episodes.json": recorded_episodes,
    }
    measured = [part for name, part in parts.items() if (ROOT / "docs/measurements" / name).exists()]
    return ["## Your own problem", *(block for part in measured for block in part())]


def own_tables() -> list[str]:
    """Four tables, each with the default command."""
    path = "docs/measurements/own_tables.json"
    rows = []
    tables = read(path)["tables"]
    assert not any(run["options"] for run in tables.values()), f"{path} must be of the default command"
    for name, run in tables.items():
        compared = run["against_direct"].values()
        rows.append(
            [
                name.replace("_", " "),
                f"{run['num_rows']:,}",
                "accuracy" if run["settings"].get("is_share", True) else "R²",
                f"{run['minutes']:.1f} min",
                *(with_interval(run["regions"][region]["nnit"]) for region in HELD_OUT),
                *(percent(fmean(part[kind] for part in compared)) for kind in ("direct", "nnit", "ghn", "nested")),
            ]
        )
    header = ["Table", "Rows", "Score", "Time", "Held-out combinations", "Held-out widths"]
    header += ["Trained directly", "NNiT, same architectures", "GHN, same architectures"]
    header += ["Nested slices, same architectures"]
    settings = next(iter(tables.values()))["settings"]
    return [
        "### Tables",
        "`nnit train TABLE --target COLUMN` without further options, on two CPU cores without a GPU. The time is that "
        "of the command, with its evaluation. Scores are of test rows. The column 'Trained directly' is the mean of "
        f"{settings['num_direct_networks']} networks each that were trained one by one, of "
        f"{2 * settings['num_direct_architectures']} held-out architectures. "
        + interval_note("architectures", settings),
        markdown_table(header, rows),
        source(path),
    ]


def half_cheetah() -> list[str]:
    folder = "docs/measurements/half_cheetah"
    report, teacher = read(f"{folder}/evaluation.json"), read("examples/teachers/half_cheetah.json")
    return [
        "### HalfCheetah-v5 and a teacher",
        "`examples/half_cheetah.sh`: policies that imitate "
        "[`examples/teachers/half_cheetah.onnx`](../examples/teachers/half_cheetah.onnx), a PPO policy of "
        f"Stable-Baselines3 with a mean return of {teacher['mean_return']:,.0f}. {grid(report['settings'])} "
        "An episode succeeds with 90% of the teacher's mean return.",
        *tables_of(report),
        returns_of_teacher(report, teacher["mean_return"]),
        source(f"{folder}/evaluation.json", f"{folder}/recipe.json", "examples/teachers/half_cheetah.json"),
        *(search(f"{folder}/search.json") if (ROOT / folder / "search.json").exists() else ()),
    ]


def returns_of_teacher(report: dict[str, Any], mean_return: float) -> str:
    """Mean returns beside that of the teacher in more episodes than the evaluation ran it for."""
    parts = (percent(report["regions"][region]["nnit"]["mean_return"] / mean_return) for region in HELD_OUT)
    combinations, widths = parts
    return (
        "The evaluation measured the teacher in a few episodes. Of its mean return in 100 episodes, "
        f"{mean_return:,.0f}, generated policies have {combinations} (held-out combinations) and {widths} (held-out "
        "widths)."
    )


def search(path: str) -> list[str]:
    result = read(path)["result"]
    winner = next((one for one in result["finalists"] if one["name"] == result["winner"]), None)
    if winner is None:
        return [f"`nnit search` found no network for {result['target']:.0%}.", source(path)]
    confirmed = winner["confirmation"]
    score = {"mean": confirmed["score"], "interval": confirmed["confidence_interval"]}
    return [
        f"`nnit search` for {result['target']:.0%} found {winner['architecture']['hidden_sizes']}, of "
        f"{winner['num_parameters']:,} parameters: {with_interval(score)} in {confirmed['num_episodes']} episodes.",
        source(path),
    ]


def pull_cube() -> list[str]:
    blocks = ["### PullCube-v1 and a scripted expert"]
    for mode, meaning in PULL_CUBE.items():
        folder = f"docs/measurements/pull_cube_{mode}"
        if not (ROOT / folder).exists():
            continue
        report = read(f"{folder}/evaluation.json")
        blocks += [
            f"`python examples/pull_cube.py --control_mode {mode}`, whose actions are {meaning}. "
            f"{grid(report['settings'])}",
            *tables_of(report),
            source(f"{folder}/evaluation.json", f"{folder}/recipe.json"),
        ]
    return blocks


def tables_of(report: dict[str, Any]) -> list[str]:
    regions, settings = report["regions"], report["settings"]
    return [
        regions_caption(settings, regions),
        regions_table(regions, settings),
        direct_caption(settings),
        direct_table(report["direct"], settings, regions),
    ]


def recorded_episodes() -> list[str]:
    path = "docs/measurements/recorded_episodes.json"
    report = read(path)
    names = {"recorded": "recorded episodes alone", "with_dagger": "with a teacher for DAgger"}
    rows = [
        [
            names[name],
            *(with_interval(run["regions"][region]["nnit"]) for region in HELD_OUT),
            *(percent(run["regions"][region]["ghn"]["mean"]) for region in HELD_OUT),
            percent(fmean(part["direct"]["mean"] for part in run["direct"].values())),
        ]
        for name, run in report["runs"].items()
    ]
    header = ["Training", "Held-out combinations", "Held-out widths", "GHN, combinations", "GHN, widths"]
    return [
        "### Recorded episodes",
        f"{report['arguments']['num_episodes']} successful episodes of PickCube-v1 in an `.h5` file of ManiSkill, "
        "without noise. The two runs differ by the rounds of DAgger alone. Small settings, and one run each. The last "
        "column is the mean of networks trained one by one on the same data.",
        markdown_table([*header, "Trained directly"], rows),
        source(path),
    ]
