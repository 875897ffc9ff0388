"""An evaluation as a whole: saved part by part, resumed, added to, and refused where it is of something else."""

import json
from dataclasses import replace

import pytest
import torch
from tiny import tiny_pipeline
from tiny_tasks import TinyDemandTask
from untrained import FEW, without_times

from nnit_diffusers import NNiTPipeline
from nnit_diffusers.evaluation import pipeline as evaluation_pipeline
from nnit_diffusers.evaluation.config import EvaluationConfig
from nnit_diffusers.evaluation.pipeline import evaluate_pipeline, num_parts
from nnit_diffusers.evaluation.report import settings_of
from nnit_diffusers.evaluation.sections import Evaluator


def read(path):
    return json.loads(path.read_text())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "evaluation.json"


@pytest.fixture(scope="module")
def episodes(episodes_config, in_episodes, pipe, tmp_path_factory):
    """A complete evaluation with episodes."""
    return evaluate_pipeline(pipe, in_episodes(), tmp_path_factory.mktemp("out") / "evaluation.json", episodes_config)


def test_the_file_holds_what_is_returned(episodes_config, in_episodes, pipe, path):
    config = replace(episodes_config, sections=("unconditional",))
    assert evaluate_pipeline(pipe, in_episodes(), path, config) == read(path)


# Interrupted and resumed


def test_an_evaluation_interrupted_within_an_architecture_loses_only_that_one(
    episodes, episodes_config, in_episodes, pipe, path
):
    # three calls per architecture: two for NNiT and one for the GHN
    with pytest.raises(KeyboardInterrupt):
        evaluate_pipeline(pipe, in_episodes(3 + 2), path, episodes_config)
    assert len(read(path)["regions"]["deeper"]["architectures"]) == 1
    resumed = evaluate_pipeline(pipe, in_episodes(), path, episodes_config)
    for section in ("regions", "unconditional"):
        assert without_times(resumed[section]) == without_times(episodes[section])


def test_an_evaluation_cut_short_has_as_many_architectures_of_each_region(episodes_config, in_episodes, pipe, path):
    # four calls for an architecture that nested slices have
    with pytest.raises(KeyboardInterrupt):
        evaluate_pipeline(pipe, in_episodes(4 + 3), path, replace(episodes_config, regions=("seen", "deeper")))
    regions = read(path)["regions"]
    assert {region: len(part["architectures"]) for region, part in regions.items()} == {"seen": 1, "deeper": 1}


def test_an_interrupted_evaluation_resumes_with_the_same_result(report, config, pipe, digits, path):
    partial = json.loads(json.dumps(report))
    del partial["steps"], partial["regions"]["wider"], partial["unconditional"]["fill_in"]
    partial["direct"].popitem()
    # killed after the first architecture of a region
    partial["regions"]["deeper"]["architectures"].pop()
    path.write_text(json.dumps(partial))
    evaluate_pipeline(pipe, digits, path, config)
    resumed = read(path)
    for section in config.sections:
        assert without_times(resumed[section]) == without_times(report[section])
    assert len(resumed["runs"]) == 2


def test_a_finished_evaluation_is_not_changed(report, config, pipe, digits, evaluation_path):
    before = evaluation_path.read_bytes()
    assert evaluate_pipeline(pipe, digits, evaluation_path, config) == report
    assert evaluation_path.read_bytes() == before


def test_sizes_that_are_not_given_are_those_of_the_file(report, config, pipe, digits, evaluation_path):
    open_sizes = replace(config, widths=None, documented_architecture=None)
    assert open_sizes.for_task(digits).widths != config.widths
    assert evaluate_pipeline(pipe, digits, evaluation_path, open_sizes) == report


def test_networks_take_the_steps_of_the_pipeline_unless_the_file_has_others(
    config, digits_pipeline_folder, digits, path
):
    pipe = NNiTPipeline.from_pretrained(digits_pipeline_folder)
    pipe.register_to_config(default_num_inference_steps=2)
    config = replace(config, sections=("unconditional",), num_inference_steps=None)
    assert evaluate_pipeline(pipe, digits, path, config)["settings"]["num_inference_steps"] == 2
    pipe.register_to_config(default_num_inference_steps=3)
    assert evaluate_pipeline(pipe, digits, path, config)["settings"]["num_inference_steps"] == 2


def test_later_runs_add_regions_and_sections_to_the_same_file(episodes_config, in_episodes, pipe, path):
    for changes in (
        {"sections": ("regions",)},
        {"sections": ("regions",), "regions": ("seen",)},
        {"sections": ("unconditional",), "num_networks": FEW["num_networks"]},
    ):
        evaluate_pipeline(pipe, in_episodes(), path, replace(episodes_config, **changes))
    report = read(path)
    # in a fixed order, whichever was computed first
    assert list(report["regions"]) == ["seen", "deeper"]
    assert list(report["unconditional"]) == ["free", "max_parameters", "parameter_range", "fill_in"]
    assert len(report["runs"]) == 3


def test_two_evaluations_of_one_file_add_to_each_other(config, pipe, digits, path, monkeypatch):
    """The second begins and ends while the first computes its first part."""
    first = replace(config, sections=("steps",))

    class Interleaved(Evaluator):
        def generate(self, *args, **kwargs):
            monkeypatch.setattr(evaluation_pipeline, "Evaluator", Evaluator)
            if not path.exists():
                evaluate_pipeline(pipe, digits, path, replace(first, sections=("steps", "widths")))
            return super().generate(*args, **kwargs)

    monkeypatch.setattr(evaluation_pipeline, "Evaluator", Interleaved)
    evaluate_pipeline(pipe, digits, path, first)
    report = read(path)
    assert set(report) == {"settings", "runs", "steps", "widths"}
    assert list(report["steps"]) == ["1", "2"]


def test_sections_can_be_chosen(config, pipe, digits, path):
    evaluate_pipeline(pipe, digits, path, replace(config, sections=("widths",)))
    assert set(read(path)) == {"settings", "runs", "widths"}


def test_every_part_is_announced_before_it_is_computed(config, pipe, digits, path):
    chosen, announced = replace(config, sections=("widths", "direct")), []
    evaluate_pipeline(pipe, digits, path, chosen, on_part=lambda *part: announced.append(part))
    assert len(announced) == num_parts(digits, chosen) == 5
    assert [done for done, _, _ in announced] == list(range(5))
    assert {total for _, total, _ in announced} == {5}
    assert announced[0][2] == "widths 8"
    # nothing is left to announce
    evaluate_pipeline(pipe, digits, path, chosen, on_part=lambda *part: announced.append(part))
    assert len(announced) == 5


# Settings


class UntouchableTask(TinyDemandTask):
    """A task whose episodes must not run."""

    name = "untouchable"

    def score(self, *args, **kwargs):
        raise AssertionError("No episode may run.")


@pytest.mark.parametrize("num_episodes, expected", [(None, 100), (20, 20)])
def test_the_number_of_test_episodes_is_known_without_running_any(num_episodes, expected):
    config = replace(EvaluationConfig(**FEW), num_episodes=num_episodes)
    settings = settings_of(tiny_pipeline(ghn=True), UntouchableTask(), config.for_task(UntouchableTask()))
    assert settings["num_test_episodes"] == expected
    assert (settings["sample_name"], settings["metric"]) == ("episode", "success rate")


def test_the_settings_of_a_data_set_name_its_samples_and_its_metric(report):
    settings = report["settings"]
    assert (settings["sample_name"], settings["metric"], settings["num_test_episodes"]) == ("sample", "accuracy", 360)


def test_a_report_of_an_older_version_is_added_to(report, config, pipe, digits, path):
    older = json.loads(json.dumps(report))
    new = ("sample_name", "metric", "num_direct_architectures", "num_direct_networks", "direct_steps")
    for name in new:
        del older["settings"][name]
    del older["direct"]
    path.write_text(json.dumps(older))
    evaluate_pipeline(pipe, digits, path, config)
    assert read(path)["settings"] == report["settings"]
    assert without_times(read(path)["direct"]) == without_times(report["direct"])


@pytest.mark.parametrize("name", ["task", "weights_sha256", "sampler_sha256", "training_grid"])
def test_a_report_that_does_not_say_what_it_is_of_is_refused(name, report, config, pipe, digits, path):
    nameless = json.loads(json.dumps(report))
    del nameless["settings"][name]
    path.write_text(json.dumps(nameless))
    with pytest.raises(ValueError, match=rf"differs in \['{name}'\]"):
        evaluate_pipeline(pipe, digits, path, config)
    assert read(path) == nameless


def test_an_evaluation_with_other_settings_is_not_added_to(report, config, pipe, digits, evaluation_path):
    with pytest.raises(ValueError, match=r"must be a new file, or one with .* differs in \['num_networks'\]"):
        evaluate_pipeline(pipe, digits, evaluation_path, replace(config, num_networks=4))
    assert read(evaluation_path) == report


def test_an_evaluation_of_other_weights_is_not_added_to(config, digits_pipeline_folder, digits, evaluation_path):
    changed = NNiTPipeline.from_pretrained(digits_pipeline_folder)
    with torch.no_grad():
        next(changed.transformer.parameters()).add_(1e-3)
    with pytest.raises(ValueError, match=r"differs in \['weights_sha256'\]"):
        evaluate_pipeline(changed, digits, evaluation_path, config)


def test_an_evaluation_of_another_sampler_is_not_added_to(config, digits_pipeline_folder, digits, evaluation_path):
    changed = NNiTPipeline.from_pretrained(digits_pipeline_folder)
    changed.scheduler.register_to_config(shift=3.0)
    with pytest.raises(ValueError, match=r"differs in \['sampler_sha256'\]"):
        evaluate_pipeline(changed, digits, evaluation_path, config)


def test_a_pipeline_without_a_ghn_is_refused(config, pipe, digits, path):
    with pytest.raises(ValueError, match="`pipe` must have a GHN"):
        evaluate_pipeline(NNiTPipeline(**{**pipe.components, "ghn": None}), digits, path, config)
    assert not path.exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sections": ("regions", "speed")}, r"`sections` must be among .* but received \['speed'\]"),
        ({"regions": ("narrower",)}, r"`regions` must be among .* but received \['narrower'\]"),
        ({"depths": (3, 65)}, r"`depths` must be at most 64, but received \[65\]"),
        ({"num_networks": 0}, "`num_networks` must be 1 or more, but received 0"),
        (
            {"num_ensemble": 5},
            "`num_compared_networks` must be 2 or more, and not less than `num_ensemble`, but.* 4 and 5",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message, config, pipe, digits, path):
    with pytest.raises(ValueError, match=message):
        evaluate_pipeline(pipe, digits, path, replace(config, **changes))
