"""Stage 4: scores a pipeline. What the README, the model card and the figures say is read from the JSON it writes.

    python examples/evaluate_nnit.py --task digits --pretrained_model_name_or_path nnit/digits \
        --output_path nnit/digits/evaluation.json

Every part is written as soon as it is computed: the same command, given again, goes on where it was interrupted, and
`--sections` adds to the same file, also while another process does. Networks are scored on test data; those selected
are selected on validation data. A data set scores all networks on all of it. Where an episode is a rollout in a
simulator, `--num_episodes 20 --num_final_episodes 100` screens all of them on a few validation episodes, each of which
ends with its first success, and the selected ones on more of the test's, to their last step: `success_at_end` stands
beside their scores alone.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from evaluation_report import report_tables
from evaluation_sections import SECTIONS, Evaluator
from tqdm.auto import tqdm

from nnit_diffusers import NNiTPipeline, Task, evaluate, get_task
from nnit_diffusers.pipelines.fingerprint import fingerprint
from nnit_diffusers.regions import REGIONS
from nnit_diffusers.utils import provenance, write_json


# What says where things are and which of them are measured, not how.
PLACES = ("pretrained_model_name_or_path", "data_dir", "output_path", "sections", "regions")
# What a task's seen region is drawn from.
GRID = ("min_width", "max_width", "min_depth", "max_depth")


@dataclass
class Arguments:
    """Scores a pipeline that has its GHN beside it."""

    pretrained_model_name_or_path: str = "nnit/digits"
    """Pipeline, a folder or a Hub repository."""
    task: str = "digits"
    """Name of a registered task."""
    data_dir: str | None = None
    """Where the task finds or downloads its data, if it needs any."""
    output_path: str = "nnit/digits/evaluation.json"
    """The JSON to write, or to add to."""
    sections: tuple[Literal["regions", "widths", "joint", "comparison", "steps"], ...] = (
        "regions",
        "widths",
        "joint",
        "comparison",
        "steps",
    )
    """What to compute, unless it is there already."""
    seed: int = 1234
    """Seed of architectures and networks; training never uses it."""
    num_inference_steps: int = 20
    """Denoising steps, everywhere but in section `steps`."""
    num_episodes: int | None = None
    """Episodes (samples) that a network is scored on; the task's own number by default."""

    regions: tuple[Literal["seen", "held_out_combinations", "held_out_widths", "deeper", "wider"], ...] = REGIONS
    """`regions`: regions to draw architectures from, unless they are there already."""
    num_architectures: int = 10
    """`regions`: architectures drawn from each region."""
    num_networks: int = 100
    """`regions`: networks of each of them."""
    num_ghn_networks: int | None = None
    """`regions`: networks of the GHN of each of them; as many by default."""
    num_selected: int = 10
    """`regions` and `joint`: networks of each architecture or request selected on validation data."""
    num_final_episodes: int | None = None
    """`regions`, `joint`: test episodes of those selected; then all are scored on others, and by success alone."""

    widths: tuple[int, ...] = (4, 8, 12, 16, 24, 32, 37, 48, 56, 64, 72, 80, 96, 100, 112, 128, 160, 200)
    """`widths`: networks of two hidden layers of each of these widths."""
    num_width_networks: int = 30
    """`widths`: networks of each."""

    num_joint_networks: int = 200
    """`joint`: networks whose architectures the model chooses."""
    num_budget_networks: int = 100
    """`joint`: networks under each of the budgets below."""
    max_parameters: int = 4000
    """`joint`: upper end of a budget without a lower one."""
    parameter_range: tuple[int, int] = (3000, 3500)
    """`joint`: a budget with two ends."""
    fill_in_width: int = 48
    """`joint`: given first hidden layer of networks whose second one the model chooses."""
    fill_in_max_parameters: int = 5000
    """`joint`: the budget of these."""

    documented_architecture: tuple[int, ...] = (48, 40)
    """`comparison`: compared beside an architecture of every region."""
    num_compared_networks: int = 32
    """`comparison`: networks of each architecture, and as many fresh ones of the GHN."""
    num_references: int = 256
    """`comparison`: networks of the GHN among which the nearest is looked for."""
    num_ensemble: int = 10
    """`comparison`: networks whose outputs an ensemble averages."""

    steps: tuple[int, ...] = (1, 2, 4, 8, 20, 50)
    """`steps`: numbers of denoising steps."""
    num_step_architectures: int = 5
    """`steps`: architectures of each of two regions."""
    num_step_networks: int = 20
    """`steps`: networks of each architecture, the same noise for every number of steps."""


def settings_of(pipe: NNiTPipeline, task: Task, arguments: Arguments) -> dict[str, Any]:
    """What makes an evaluation this one: arguments, weights, task; as JSON has it."""
    network = pipe.ghn.generate([task.regions.architecture(arguments.documented_architecture)])
    (scored,) = evaluate(network, task.for_screening(), arguments.num_episodes, split="test")
    settings = {
        **{name: value for name, value in asdict(arguments).items() if name not in PLACES},
        "weights_sha256": fingerprint(pipe),
        "training_grid": {name: getattr(task, name) for name in GRID},
        "num_test_episodes": scored.num_episodes,
    }
    return json.loads(json.dumps(settings))


def open_report(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The evaluation begun at `path`, or an empty one.

    Raises:
        `ValueError`: If it is of other weights, or was made with other arguments.
    """
    if not path.exists():
        return {"settings": settings, "runs": []}
    report = json.loads(path.read_text(encoding="utf-8"))
    others = [name for name in settings if report["settings"].get(name) != settings[name]]
    if others:
        raise ValueError(
            f"`output_path` must be a new file or an evaluation with the same settings, but received {str(path)!r}, "
            f"which differs in {others}."
        )
    return report


def add_part(
    path: Path, settings: dict[str, Any], run: dict[str, Any], section: str, name: str, result: dict[str, Any]
) -> dict[str, Any]:
    """The evaluation at `path` with one more part, which is written, and with the run that made it.

    It is read again each time: two processes that evaluate different sections or regions can share a file. A part lost
    because both write in the same instant is measured again when the command is given again.
    """
    report = open_report(path, settings)
    if not SECTIONS[section].is_stored(report.get(section, {}), name):
        SECTIONS[section].store(report.setdefault(section, {}), name, result)
        report["runs"] += [] if run in report["runs"] else [run]
        write_json(path, report)
    return report


def main(arguments: Arguments) -> None:
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    if pipe.ghn is None:
        raise ValueError(
            "`pretrained_model_name_or_path` must be a pipeline with a GHN to compare with, but received "
            f"{arguments.pretrained_model_name_or_path!r}, which has none."
        )
    pipe.set_progress_bar_config(disable=True)
    task = get_task(arguments.task, **({"data_dir": arguments.data_dir} if arguments.data_dir else {}))
    path, settings, run = Path(arguments.output_path), settings_of(pipe, task, arguments), provenance()
    report = open_report(path, settings)

    with tqdm(desc="Evaluation", unit="network") as bar:
        evaluator = Evaluator(pipe, task, arguments, bar)
        parts = {
            (section, name): part
            for section in arguments.sections
            for name, part in SECTIONS[section].parts(evaluator).items()
            if not SECTIONS[section].is_stored(report.get(section, {}), name)
        }
        bar.reset(total=sum(part.num_networks for part in parts.values()))
        for (section, name), part in parts.items():
            bar.set_postfix_str(f"{section} {name}")
            start = time.perf_counter()
            result = {**part.compute(), "num_networks": part.num_networks}
            result["seconds"] = time.perf_counter() - start
            report = add_part(path, settings, run, section, name, result)
    print(report_tables(report))


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
