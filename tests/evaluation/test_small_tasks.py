"""Tasks with few architectures: sizes are derived, small regions give what they have, and empty ones nothing."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_tasks import TinyDataTask
from untrained import FEW, save_untrained, statistics_of

from nnit_diffusers import NNiTPipeline, get_task
from nnit_diffusers.cards import draw_pictures
from nnit_diffusers.evaluation.config import EvaluationConfig
from nnit_diffusers.evaluation.pipeline import evaluate_pipeline
from nnit_diffusers.evaluation.protocol import protocol
from nnit_diffusers.evaluation.tables import report_tables


class OneLayerTask(TinyDataTask):
    """Which of three numbers is the largest, for networks of one hidden layer: there are no combinations of widths."""

    name = "one_layer"
    min_width, max_width, max_depth = 20, 32, 1


class OneWidthTask(TinyDataTask):
    """The same, for networks of one width: no width is held out."""

    name = "one_width"
    min_width = max_width = 16
    max_depth = 3


class TwoLayersTask(TinyDataTask):
    """The same, for networks of two layers or more, as stacking cubes demands."""

    name = "two_layers"
    min_depth, max_depth = 2, 3


class ThreeLayersTask(TinyDataTask):
    """The same, for networks of three layers."""

    name = "three_layers"
    min_depth = max_depth = 3


class OneArchitectureTask(TinyDataTask):
    """The same, for a single architecture."""

    name = "one_architecture"
    min_width = max_width = 16
    min_depth = max_depth = 1


TASKS = [OneLayerTask, OneWidthTask, TwoLayersTask, ThreeLayersTask, OneArchitectureTask]
SIZES = EvaluationConfig(**{**FEW, "direct_steps": 5, "widths": None, "depths": None, "documented_architecture": None})


@pytest.fixture(scope="module", params=TASKS, ids=lambda task: task.name)
def evaluated(request, tmp_path_factory):
    """A task of few architectures, and the evaluation of an untrained pipeline on it."""
    task = request.param()
    folder = save_untrained(tmp_path_factory.mktemp(task.name), task, statistics_of(task))
    pipe = NNiTPipeline.from_pretrained(folder)
    return task, evaluate_pipeline(pipe, task, folder / "evaluation.json", SIZES)


def test_derived_sizes_are_of_the_task(evaluated):
    task, report = evaluated
    settings, regions = report["settings"], task.regions
    assert min(settings["widths"]) == max(1, task.min_width // 4) and max(settings["widths"]) == 3 * task.max_width
    # every depth, and up to 8/3 times the largest
    assert set(range(task.min_depth, task.max_depth + 2)) <= set(settings["depths"])
    assert max(settings["depths"]) == max(task.max_depth + 2, round(8 * task.max_depth / 3))
    for part in report["depths"].values():
        # a grid may have fewer architectures than asked for
        assert part["num_networks"] == len(part["architectures"]) * SIZES.num_depth_networks
    documented = settings["documented_architecture"]
    assert task.min_depth <= len(documented) <= task.max_depth
    assert all(task.min_width <= width <= task.max_width for width in documented)
    # budgets that architectures of the task meet
    least, most = settings["parameter_range"]
    drawn = regions.sample("seen", 300, torch.Generator().manual_seed(1))
    counts = [architecture.num_parameters for architecture in drawn]
    assert least < most and any(least <= count <= most for count in counts)
    assert min(counts) <= settings["max_parameters"] <= max(counts)


def test_every_section_has_what_there_is(evaluated):
    task, report = evaluated
    wanted = FEW["num_architectures"]
    there = {
        region: len(task.regions.sample_distinct(region, wanted, torch.Generator().manual_seed(0)))
        for region in SIZES.regions
    }
    measured = {region: len(part["architectures"]) for region, part in report["regions"].items()}
    assert measured == {region: number for region, number in there.items() if number}
    held_out = {region for region in ("held_out_combinations", "held_out_widths") if there[region]}
    assert {name.split("/")[0] for name in report.get("direct", {})} == held_out
    for part in report.get("steps", {}).values():
        assert held_out == set(part) & set(there)
        assert part["num_networks"] == sum(len(part[region]["architectures"]) for region in held_out)
    assert bool(held_out) == ("steps" in report)
    assert ("fill_in" in report["unconditional"]) == (task.max_depth > 1)
    assert {part["num_violations"] for part in report["unconditional"].values()} == {0}


def test_tables_and_pictures_are_complete(evaluated, tmp_path):
    _, report = evaluated
    tables = report_tables(report)
    assert "None" not in tables.replace("None]", "").replace("None,", "") and "nan" not in tables
    small = [
        region for region, part in report["regions"].items() if len(part["architectures"]) < FEW["num_architectures"]
    ]
    assert ("Regions with fewer architectures" in protocol(report)) == bool(small)
    drawn = {path.stem for path in draw_pictures(report, tmp_path)}
    assert drawn == set(report) - {"settings", "runs", "direct"}


def test_an_evaluation_of_few_architectures_is_finished(evaluated, tmp_path):
    """Called again, it computes nothing: empty regions are not missing."""
    task, report = evaluated
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(report))
    pipe = NNiTPipeline.from_pretrained(
        save_untrained(tmp_path / "pipeline", task, statistics_of(task)),
    )
    announced = []
    evaluate_pipeline(pipe, task, path, SIZES, on_part=lambda *part: announced.append(part))
    assert announced == []


def test_what_is_given_is_not_derived():
    task = get_task("digits")
    given = {"widths": (5, 6), "max_parameters": 3333, "fill_in_width": 17}
    config = EvaluationConfig(**given).for_task(task)
    assert {name: getattr(config, name) for name in given} == given
    assert config.documented_architecture == (48, 48)
    assert replace(config).for_task(task) == config


def test_derived_sizes_are_the_same_every_time():
    torch.manual_seed(1)
    first = EvaluationConfig().for_task(get_task("stackcube"))
    torch.manual_seed(2)
    assert EvaluationConfig().for_task(get_task("stackcube")) == first
    assert len(first.documented_architecture) == max(2, get_task("stackcube").min_depth)
