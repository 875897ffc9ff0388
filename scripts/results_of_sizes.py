"""The part of docs/results.md about the size of a policy: success against parameters, beside direct training."""

from __future__ import annotations

from typing import Any

from results_sources import read, source

from nnit_diffusers import MLPArchitecture
from nnit_diffusers.evaluation.formats import architecture_name, with_interval
from nnit_diffusers.export import footprint
from nnit_diffusers.markdown import markdown_table


SIZES = "docs/measurements/pickcube_sizes.json"
WINNER = "docs/measurements/pickcube_chip_winner.json"
WINNER_FLOAT32 = "docs/measurements/pickcube_chip_winner_float32.json"
# The actor of ManiSkill's `ppo.py` (examples/baselines/ppo): three hidden layers of 256 units.
PPO_HIDDEN_SIZES = (256, 256, 256)


def sizes_table() -> str:
    """A row for each shape: parameters, bytes on a microcontroller, and success of two ways to its weights."""
    rows = []
    for name, row in read(SIZES)["architectures"].items():
        hidden_sizes = tuple(map(int, name.split("-")))
        architecture = MLPArchitecture(42, hidden_sizes, 8)
        actor = " (PPO's actor)" if hidden_sizes == PPO_HIDDEN_SIZES else ""
        rows.append(
            [
                f"`{architecture_name(hidden_sizes)}`{actor}",
                f"{row['num_parameters']:,}",
                f"{footprint(architecture, 'int8').weight_bytes:,}",
                *(with_interval({"mean": part["score"], **part}) for part in (row["generated"], row)),
            ]
        )
    header = ["PickCube policy", "Parameters", "Bytes, int8", "Generated, all", "Trained directly"]
    return markdown_table(header, rows)


def sizes() -> list[str]:
    report = read(SIZES)
    arguments = report["arguments"]
    each = len(arguments["sgd_seeds"])
    return [
        "## Success against size",
        f"{each} generated networks of each shape, none of them chosen, and {each} that were trained one by one on "
        f"the expert's demonstrations for {arguments['max_train_steps']:,} steps. All ran the same "
        f"{arguments['num_episodes']} test episodes. Brackets: 95% Wilson interval over episodes. The last shape is "
        "that of the actor of ManiSkill's PPO. Its own training was not repeated here.",
        sizes_table(),
        f"A search for a chip chose {_successes(WINNER)} with 8-bit weights, and {_successes(WINNER_FLOAT32)} with "
        "float32, of the same fresh episodes.",
        source(SIZES, WINNER, WINNER_FLOAT32),
    ]


def _successes(path: str) -> str:
    (winner,) = read(path)["networks"]
    name: Any = architecture_name(winner["architecture"]["hidden_sizes"])
    return f"`{name}`: {winner['num_successes']} of {winner['num_episodes']} successes"
