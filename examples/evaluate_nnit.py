"""Stage 4: scores a pipeline. All results in the README, the model card and docs/results.md come from its JSON.

    python examples/evaluate_nnit.py --task digits --pretrained_model_name_or_path nnit/digits \
        --output_path nnit/digits/evaluation.json

Every part is saved as soon as it is computed. The same command, run again, resumes an interrupted evaluation.
`--sections` adds sections to the same file, also while another process does.

Networks are scored on test data, and the best ones are chosen on validation data. For a data set, every network is
scored on all samples.

For rollouts in a simulator, use `--num_episodes 20 --num_final_episodes 100`. All networks are then screened on a few
validation episodes, each of which stops at its first success. Only the best ones run in test episodes, to the last
step, and only they get a `success_at_end`.
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


# Arguments that are no settings: locations, and which parts to measure.
PLACES = ("pretrained_model_name_or_path", "data_dir", "output_path", "sections", "regions")
# Attributes of a task that define its seen region.
GRID = ("min_width", "max_width", "min_depth", "max_depth")


@dataclass
class Arguments:
    """Scores a pipeline and the GHN in its folder."""

    pretrained_model_name_or_path: str = "nnit/digits"
    """Pipeline: a folder or a Hub repository."""
    task: str = "digits"
    """Name of a registered task."""
    data_dir: str | None = None
    """Folder where the task finds or downloads its data, if it needs any."""
    output_path: str = "nnit/digits/evaluation.json"
    """JSON file to write, or to add to."""
    sections: tuple[Literal["regions", "widths", "unconditional", "novelty", "steps"], ...] = (
        "regions",
        "widths",
        "unconditional",
        "novelty",
        "steps",
    )
    """Sections to compute. Parts that the file already has are skipped."""
    seed: int = 1234
    """Seed of architectures and networks. Training does not use it."""
    num_inference_steps: int = 20
    """Denoising steps in all sections but `steps`."""
    num_episodes: int | None = None
    """Episodes (samples) per network. Default: the number that the task defines."""

    regions: tuple[Literal["seen", "held_out_combinations", "held_out_widths", "deeper", "wider"], ...] = REGIONS
    """`regions`: regions to draw architectures from."""
    num_architectures: int = 10
    """`regions`: architectures per region."""
    num_networks: int = 100
    """`regions`: generated networks per architecture."""
    num_ghn_networks: int | None = None
    """`regions`: networks of the GHN per architecture. Default: as many as generated ones."""
    num_selected: int = 10
    """`regions`, `unconditional`: best networks, chosen on validation data, per architecture or request."""
    num_final_episodes: int | None = None
    """`regions`, `unconditional`: test episodes of the best networks. The rest get validation episodes only."""

    widths: tuple[int, ...] = (4, 8, 12, 16, 24, 32, 37, 48, 56, 64, 72, 80, 96, 100, 112, 128, 160, 200)
    """`widths`: widths of networks with two equal hidden layers."""
    num_width_networks: int = 30
    """`widths`: networks per width."""

    num_unconditional_networks: int = 200
    """`unconditional`: networks without a request."""
    num_budget_networks: int = 100
    """`unconditional`: networks for each of the requests below."""
    max_parameters: int = 4000
    """`unconditional`: a parameter budget with an upper bound only."""
    parameter_range: tuple[int, int] = (3000, 3500)
    """`unconditional`: a parameter budget with a lower and an upper bound."""
    fill_in_width: int = 48
    """`unconditional`: width of the first of two hidden layers, of which the model chooses the second."""
    fill_in_max_parameters: int = 5000
    """`unconditional`: upper bound of the parameters of these."""

    documented_architecture: tuple[int, ...] = (48, 40)
    """`novelty`: this architecture, and one of every region."""
    num_compared_networks: int = 32
    """`novelty`: generated networks per architecture, and as many of the GHN."""
    num_references: int = 256
    """`novelty`: networks of the GHN among which the nearest neighbour is searched."""
    num_ensemble: int = 10
    """`novelty`: networks per ensemble, which averages their outputs."""

    steps: tuple[int, ...] = (1, 2, 4, 8, 20, 50)
    """`steps`: numbers of denoising steps."""
    num_step_architectures: int = 5
    """`steps`: architectures in each of two regions, held-out combinations and held-out widths."""
    num_step_networks: int = 20
    """`steps`: networks per architecture, from the same noise for every number of steps."""


def settings_of(pipe: NNiTPipeline, task: Task, arguments: Arguments) -> dict[str, Any]:
    """Settings that identify an evaluation: arguments, weights and task, as read back from JSON."""
    # one network shows how many test episodes the task uses
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
    """The evaluation at `path`, or a new one if there is none.

    Raises:
        `ValueError`: If the file is of other weights or was made with other arguments.
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
    """Adds a part, and the run that computed it, to the evaluation at `path`, and returns the evaluation.

    The file is read again each time, so that two processes can add to it. If both write at the same instant, one part
    is lost. The same command, run again, computes it again.
    """
    report = open_report(path, settings)
    if not SECTIONS[section].is_stored(report.get(section, {}), name):
        SECTIONS[section].store(report.setdefault(section, {}), name, result)
        report["runs"] += [] if run in report["runs"] else [run]
        write_json(path, report)
    return report


def main(arguments: Arguments) -> None:
    # load the pipeline and the evaluation
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
        # parts that are missing
        evaluator = Evaluator(pipe, task, arguments, bar)
        parts = {
            (section, name): part
            for section in arguments.sections
            for name, part in SECTIONS[section].parts(evaluator).items()
            if not SECTIONS[section].is_stored(report.get(section, {}), name)
        }
        bar.reset(total=sum(part.num_networks for part in parts.values()))
        # compute and save part by part
        for (section, name), part in parts.items():
            bar.set_postfix_str(f"{section} {name}")
            start = time.perf_counter()
            result = {**part.compute(), "num_networks": part.num_networks}
            result["seconds"] = time.perf_counter() - start
            report = add_part(path, settings, run, section, name, result)
    print(report_tables(report))


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
