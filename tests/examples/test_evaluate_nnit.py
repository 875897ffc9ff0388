import json
from copy import copy
from dataclasses import replace
from pathlib import Path

import evaluate_nnit
import pytest
import torch
import tyro
from evaluate_nnit import Arguments, main
from evaluation_novelty import baselines, closeness_of, ensemble, patches_of
from evaluation_report import AT_END, report_tables
from evaluation_sections import Evaluator, meets
from evaluation_summary import add_interval, difference_summary
from tqdm.auto import tqdm

from nnit_diffusers import MLPArchitecture, NNiTPipeline, evaluate, register_task
from nnit_diffusers.evaluation import mean_interval, select_top, wilson_interval
from nnit_diffusers.regions import REGIONS
from nnit_diffusers.tasks.digits import DigitsTask


FEW = {
    "num_inference_steps": 1,
    "num_architectures": 2,
    "num_networks": 3,
    "num_selected": 1,
    "widths": (8, 80),
    "num_width_networks": 2,
    "num_unconditional_networks": 6,
    "num_budget_networks": 4,
    "num_compared_networks": 4,
    "num_references": 6,
    "num_ensemble": 2,
    "steps": (1, 2),
    "num_step_architectures": 2,
    "num_step_networks": 1,
}


@register_task("digits_in_episodes")
class DigitsInEpisodesTask(DigitsTask):
    """Digits with the metrics of rollouts: a `success_at_end`, except for screening.

    Attributes:
        calls_left (`int`): Number of calls before a Ctrl-C.
    """

    calls_left = 1_000_000
    is_screening = False

    def for_screening(self):
        screening = copy(self)
        screening.is_screening = True
        return screening

    def score(self, *args, **kwargs):
        if DigitsInEpisodesTask.calls_left == 0:
            raise KeyboardInterrupt
        DigitsInEpisodesTask.calls_left -= 1
        scores = super().score(*args, **kwargs)
        metrics = [{} if self.is_screening else {"success_at_end": s.num_successes / s.num_episodes} for s in scores]
        return [replace(score, metrics=of_score) for score, of_score in zip(scores, metrics)]


@pytest.fixture
def in_episodes(arguments, tmp_path):
    return replace(
        arguments,
        task="digits_in_episodes",
        output_path=str(tmp_path / "evaluation.json"),
        sections=("regions", "unconditional"),
        regions=("deeper",),
        num_episodes=20,
        num_final_episodes=50,
    )


@pytest.fixture(scope="module")
def arguments(digits_pipeline_folder, tmp_path_factory):
    return Arguments(
        str(digits_pipeline_folder), output_path=str(tmp_path_factory.mktemp("out") / "evaluation.json"), **FEW
    )


@pytest.fixture(scope="module")
def pipe(digits_pipeline_folder):
    pipe = NNiTPipeline.from_pretrained(digits_pipeline_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def report(arguments):
    main(arguments)
    return read(arguments)


def read(arguments):
    with open(arguments.output_path, encoding="utf-8") as file:
        return json.load(file)


def without_times(part):
    if isinstance(part, dict):
        return {key: without_times(value) for key, value in part.items() if not key.startswith("seconds")}
    if isinstance(part, list):
        return [without_times(value) for value in part]
    return part


def test_every_region_is_scored_on_distinct_architectures_of_its_own(report, digits):
    assert list(report["regions"]) == list(REGIONS)
    for region, part in report["regions"].items():
        drawn = [tuple(row["hidden_sizes"]) for row in part["architectures"]]
        assert len(set(drawn)) == FEW["num_architectures"]
        assert {digits.regions.region_of(hidden_sizes) for hidden_sizes in drawn} == {region}


def test_the_mean_of_a_region_is_that_of_its_architectures_and_lies_in_its_interval(report):
    for part in report["regions"].values():
        for name in ("nnit", "ghn"):
            means = [row[name]["mean"] for row in part["architectures"]]
            assert part[name]["mean"] == pytest.approx(sum(means) / len(means))
            low, high = part[name]["interval"]
            assert low <= part[name]["mean"] + 1e-9 and part[name]["mean"] <= high + 1e-9
        difference = part["nnit"]["mean"] - part["ghn"]["mean"]
        assert part["nnit_minus_ghn"]["mean"] == pytest.approx(difference)


def test_the_best_networks_are_chosen_on_validation_data_and_scored_on_test_data(report, arguments, pipe, digits):
    evaluator = Evaluator(pipe, digits, arguments, tqdm(disable=True))
    drawn = evaluator.sample("seen", arguments.num_architectures, evaluator.generator("splits", "train"))
    architecture = drawn[0]
    generator = evaluator.generator("splits", "train", str(architecture))
    networks = pipe(architecture, num_networks=3, num_inference_steps=1, generator=generator).networks
    (best,) = select_top([result.score for result in evaluate(networks, digits, split="validation")], 1)
    row = report["regions"]["seen"]["architectures"][0]
    assert row["hidden_sizes"] == list(architecture.hidden_sizes)
    assert row["nnit"]["selected"]["mean"] == evaluate(networks[best : best + 1], digits, split="test")[0].score


def test_with_final_episodes_only_the_best_networks_run_in_test_episodes(arguments, pipe, digits, tmp_path):
    rolled_out = replace(
        arguments,
        output_path=str(tmp_path / "evaluation.json"),
        sections=("regions",),
        regions=("deeper",),
        num_episodes=20,
        num_ghn_networks=2,
        num_final_episodes=50,
    )
    main(rolled_out)
    row = read(rolled_out)["regions"]["deeper"]["architectures"][0]
    architecture = digits.regions.architecture(row["hidden_sizes"])
    generator = Evaluator(pipe, digits, rolled_out, tqdm(disable=True)).generator(
        "splits", "deeper", str(architecture)
    )
    networks = pipe(architecture, num_networks=3, num_inference_steps=1, generator=generator).networks
    screened = [r.score for r in evaluate(networks, digits, 20, seed=rolled_out.seed, split="validation")]
    assert row["nnit"]["mean"] == pytest.approx(sum(screened) / 3)
    best = networks[select_top(screened, 1)[0]]
    (final,) = evaluate([best], digits, 50, seed=rolled_out.seed, split="test")
    assert row["nnit"]["selected"]["mean"] == final.score


def test_the_best_of_unconditional_generation_are_chosen_on_validation_data_too(report, in_episodes, pipe, digits):
    main(in_episodes)
    generator = Evaluator(pipe, digits, in_episodes, tqdm(disable=True)).generator("joint", "free")
    networks = pipe(None, num_networks=6, num_inference_steps=1, generator=generator).networks
    for part, num_episodes, num_final_episodes in (
        (report["unconditional"]["free"], None, None),
        (read(in_episodes)["unconditional"]["free"], 20, 50),
    ):
        options = {"seed": in_episodes.seed, "split": "validation"}
        screened = [result.score for result in evaluate(networks, digits, num_episodes, **options)]
        (final,) = evaluate([networks[select_top(screened, 1)[0]]], digits, num_final_episodes, in_episodes.seed)
        assert (part["selected"]["mean"], part["selected"]["num_networks"]) == (final.score, 1)
        if num_episodes is not None:
            assert part["mean"] == pytest.approx(sum(screened) / 6)


def test_success_at_end_is_reported_for_the_best_networks_only(report, in_episodes):
    main(in_episodes)
    episodes = read(in_episodes)
    selected = [episodes["regions"]["deeper"]["nnit"]["selected"], episodes["unconditional"]["free"]["selected"]]
    assert [part["success_at_end"] for part in selected] == pytest.approx([part["mean"] for part in selected])
    assert "success_at_end" not in episodes["regions"]["deeper"]["nnit"]
    assert report_tables(episodes).count(f"| {AT_END} ") == 2
    assert AT_END not in report_tables(report)


def test_an_evaluation_interrupted_within_an_architecture_loses_only_that_one(in_episodes, monkeypatch, tmp_path):
    main(in_episodes)
    interrupted = replace(in_episodes, output_path=str(tmp_path / "interrupted.json"))
    # One call for the settings, then three per architecture: two for NNiT and one for the GHN.
    monkeypatch.setattr(DigitsInEpisodesTask, "calls_left", 1 + 3 + 2)
    with pytest.raises(KeyboardInterrupt):
        main(interrupted)
    assert len(read(interrupted)["regions"]["deeper"]["architectures"]) == 1
    monkeypatch.undo()
    main(interrupted)
    for section in ("regions", "unconditional"):
        assert without_times(read(interrupted)[section]) == without_times(read(in_episodes)[section])


def test_an_evaluation_cut_short_has_as_many_architectures_of_each_region(in_episodes, monkeypatch):
    monkeypatch.setattr(DigitsInEpisodesTask, "calls_left", 1 + 2 * 3 + 1)
    with pytest.raises(KeyboardInterrupt):
        main(replace(in_episodes, regions=("seen", "deeper")))
    regions = read(in_episodes)["regions"]
    assert {region: len(part["architectures"]) for region, part in regions.items()} == {"seen": 1, "deeper": 1}


def test_later_runs_add_regions_and_sections_to_the_same_file(in_episodes):
    main(replace(in_episodes, sections=("regions",)))
    main(replace(in_episodes, sections=("regions",), regions=("seen",)))
    main(replace(in_episodes, sections=("unconditional",)))
    report = read(in_episodes)
    # In a fixed order, whichever was computed first.
    assert list(report["regions"]) == ["seen", "deeper"]
    assert list(report["unconditional"]) == ["free", "max_parameters", "parameter_range", "fill_in"]
    assert len(report["runs"]) == 3


def test_two_evaluations_of_one_file_add_to_each_other(arguments, tmp_path, monkeypatch):
    """The second begins and ends while the first computes its first part."""
    first = replace(arguments, output_path=str(tmp_path / "evaluation.json"), sections=("steps",))

    class Interleaved(Evaluator):
        def generate(self, *args, **kwargs):
            monkeypatch.setattr(evaluate_nnit, "Evaluator", Evaluator)
            if not Path(first.output_path).exists():
                main(replace(first, sections=("steps", "widths")))
            return super().generate(*args, **kwargs)

    monkeypatch.setattr(evaluate_nnit, "Evaluator", Interleaved)
    main(first)
    report = read(first)
    assert set(report) == {"settings", "runs", "steps", "widths"}
    assert list(report["steps"]) == ["1", "2"]


def test_widths_outside_the_training_grid_are_narrower_or_wider(report):
    assert {width: part["region"] for width, part in report["widths"].items()} == {"8": "narrower", "80": "wider"}


def test_unconditional_generation_violates_no_constraint(report, arguments):
    assert {part["num_violations"] for part in report["unconditional"].values()} == {0}
    assert max(report["unconditional"]["max_parameters"]["networks"]["num_parameters"]) <= arguments.max_parameters
    least, most = arguments.parameter_range
    in_range = report["unconditional"]["parameter_range"]["networks"]["num_parameters"]
    assert least <= min(in_range) and max(in_range) <= most
    filled_in = [sizes.split("-") for sizes in report["unconditional"]["fill_in"]["networks"]["hidden_sizes"]]
    assert all(len(sizes) == 2 and sizes[0] == "48" for sizes in filled_in)


@pytest.mark.parametrize(
    "arch, least, most, expected",
    [
        (None, None, None, True),
        ([20, None], None, None, True),
        ([None], None, None, False),
        ([21, None], None, None, False),
        (None, 1847, None, False),
        (None, 1846, 1846, True),
        (None, None, 1845, False),
    ],
)
def test_constraint_violations_are_counted(arch, least, most, expected):
    architecture = MLPArchitecture(64, (20, 20), 6)
    assert architecture.num_parameters == 1846
    assert meets(architecture, arch, least, most) is expected


def test_the_chosen_architectures_are_described(report):
    for part in report["unconditional"].values():
        assert sum(part["depths"].values()) == pytest.approx(1)
        assert part["num_distinct"] == len(set(part["networks"]["hidden_sizes"]))
        assert sum(part["regions"].values()) == part["num_networks"] == len(part["networks"]["score"])
        assert part["num_parameters"] == sorted(part["num_parameters"])


def test_the_documented_architecture_and_one_of_every_region_are_compared_with_the_ghn(report):
    assert "48-40" in report["novelty"]
    assert {part["region"] for part in report["novelty"].values()} == set(REGIONS)
    for part in report["novelty"].values():
        ratio = part["nnit"]["nearest_distance"] / part["ghn"]["nearest_distance"]
        assert part["nearest_distance_ratio"] == pytest.approx(ratio)
        assert part["scores"]["nnit_ensemble"]["num_networks"] == 2
        assert 1 <= part["nnit"]["participation_ratio"] <= FEW["num_compared_networks"] - 1


def test_copies_have_distance_0_and_agreement_1(pipe, digits):
    architecture = digits.regions.architecture([20, 17])
    references = pipe.ghn.generate([architecture] * 5, generator=torch.Generator().manual_seed(0))
    closeness = closeness_of(references[1:4], references, pipe.tokenizer, digits)
    assert closeness["nearest_distance"] == pytest.approx(0, abs=1e-6)
    assert closeness["nearest_agreement"] == 1
    patches = patches_of(references[1:4], pipe.tokenizer)
    pairs = [(patches[i] - patches[j]).norm().item() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert closeness["mean_distance"] == pytest.approx(sum(pairs) / 3)


def test_baselines_are_averages_of_networks_and_noise_of_the_given_distance(pipe, digits):
    architecture = digits.regions.architecture([20, 17])
    networks = pipe.ghn.generate([architecture] * 3, generator=torch.Generator().manual_seed(0))
    made = baselines(networks, pipe.tokenizer, 12.5, torch.Generator().manual_seed(0))
    patches = {name: patches_of(members, pipe.tokenizer) for name, members in {**made, "ghn": networks}.items()}
    moved = (patches["ghn_same_distance_noise"] - patches["ghn"]).norm(dim=1)
    assert moved.tolist() == pytest.approx([12.5] * 3, rel=1e-5)
    between = patches["ghn_interpolation"]
    assert torch.cdist(between, patches["ghn"])[0, 0] == pytest.approx(
        torch.pdist(patches["ghn"])[1].item() / 2, rel=1e-5
    )
    rms = (patches["ghn_small_noise"] - patches["ghn"]).square().sum(dim=1) / architecture.num_parameters
    assert rms.sqrt().tolist() == pytest.approx([0.2] * 3, rel=0.05)


@pytest.mark.parametrize("hidden_sizes", [[20], [20, 17, 31]])
def test_an_ensemble_averages_the_outputs_of_its_networks(pipe, digits, hidden_sizes):
    architecture = digits.regions.architecture(hidden_sizes)
    networks = pipe.ghn.generate([architecture] * 3, generator=torch.Generator().manual_seed(0))
    inputs = 16 * torch.rand(7, 64)
    mean = torch.stack([network(inputs) for network in networks]).mean(dim=0)
    torch.testing.assert_close(ensemble(networks)(inputs), mean)


def test_every_number_of_steps_is_scored_on_both_held_out_regions_and_timed(report):
    assert list(report["steps"]) == ["1", "2"]
    for part in report["steps"].values():
        for region in ("held_out_combinations", "held_out_widths"):
            assert 0 < part[region]["mean"] < 1
            assert part[region]["seconds_per_network"] > 0


def test_every_table_has_a_row_for_every_part(report):
    tables = report_tables(report)
    for name in (
        "held-out combinations",
        "[80, 80]",
        "fill in [48, None]",
        "[48, 40]",
        "GHN, average of two networks",
    ):
        assert f"| {name} " in tables
    assert len({line.count("|") for line in tables.split("\n\n")[2].splitlines()}) == 1


def test_captions_name_the_method_of_the_intervals_and_the_number_of_networks(report):
    tables = report_tables(report)
    assert tables.count("Brackets: 95% Student's t interval over architectures, never narrower than Wilson's") == 2
    assert tables.count("Brackets: 95% Student's t interval over networks, never narrower than Wilson's") == 2
    assert "| Best 1 of 3 (chosen on validation) " in tables and "| Architectures | " in tables


def test_an_interrupted_evaluation_resumes_with_the_same_result(report, arguments, tmp_path):
    resumed = replace(arguments, output_path=str(tmp_path / "evaluation.json"))
    partial = json.loads(json.dumps(report))
    del partial["steps"], partial["regions"]["wider"], partial["unconditional"]["fill_in"]
    # Killed after the first architecture of a region.
    partial["regions"]["deeper"]["architectures"].pop()
    (tmp_path / "evaluation.json").write_text(json.dumps(partial))
    main(resumed)
    for section in ("regions", "unconditional", "steps"):
        assert without_times(read(resumed)[section]) == without_times(report[section])
    assert len(read(resumed)["runs"]) == 2


def test_a_finished_evaluation_is_not_changed(report, arguments):
    main(arguments)
    assert read(arguments) == report


def test_sections_can_be_chosen(arguments, tmp_path):
    chosen = replace(arguments, output_path=str(tmp_path / "evaluation.json"), sections=("widths",))
    main(chosen)
    assert set(read(chosen)) == {"settings", "runs", "widths"}


def test_an_evaluation_with_other_settings_is_not_added_to(report, arguments):
    with pytest.raises(ValueError, match=r"`output_path` must be .* differs in \['num_networks'\]"):
        main(replace(arguments, num_networks=4))
    assert read(arguments) == report


def test_an_evaluation_of_other_weights_is_not_added_to(report, arguments, pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    changed = NNiTPipeline.from_pretrained(tmp_path)
    next(changed.transformer.parameters()).data.add_(1e-3)
    changed.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"differs in \['weights_sha256'\]"):
        main(replace(arguments, pretrained_model_name_or_path=str(tmp_path)))


def test_a_pipeline_without_a_ghn_is_refused(arguments, pipe, tmp_path):
    NNiTPipeline(**{**pipe.components, "ghn": None}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="must be a pipeline with a GHN"):
        main(replace(arguments, pretrained_model_name_or_path=str(tmp_path)))


def test_the_command_line_takes_counts_and_sections():
    line = "--num_networks 7 --sections unconditional steps --parameter_range 1 2 --widths 3 4"
    arguments = tyro.cli(Arguments, args=line.split(), use_underscores=True)
    assert arguments.num_networks == 7
    assert arguments.sections == ("unconditional", "steps")
    assert arguments.parameter_range == (1, 2)


def test_an_interval_is_never_narrower_than_wilsons_over_all_episodes():
    equal = add_interval({"mean": 1.0, "num_episodes": 2000}, [1.0, 1.0])
    assert equal["interval"] == list(wilson_interval(2000, 2000))
    assert (equal["interval_method"], equal["num_architectures"]) == ("wilson", 2)
    # A single value has no variation to estimate.
    single = add_interval({"mean": 0.5, "num_episodes": 20}, [0.5], unit="num_networks")
    assert single["interval"] == list(wilson_interval(10, 20))
    assert (single["interval_method"], single["num_networks"]) == ("wilson", 1)


def test_an_interval_of_scores_that_vary_is_student_ts_clipped_to_scores():
    scores = [0.5, 0.6, 0.7, 0.6, 0.6]
    metrics = add_interval({"mean": 0.6, "num_episodes": 2000}, scores)
    assert metrics["interval"] == pytest.approx(mean_interval(scores))
    assert (metrics["interval_method"], metrics["num_architectures"]) == ("student_t", 5)
    assert add_interval({"mean": 0.6, "num_episodes": 2000}, [0.2, 1.0])["interval"] == [0.0, 1.0]


def test_differences_have_an_interval_only_if_they_vary():
    assert difference_summary([0.0, 1e-16, 0.0]) == {
        "mean": pytest.approx(0),
        "num_architectures": 3,
        "interval_method": "none",
    }
    assert difference_summary([0.2])["interval_method"] == "none"
    metrics = difference_summary([0.1, 0.9, 0.8])
    assert metrics["interval"] == list(mean_interval([0.1, 0.9, 0.8]))
    # A difference in points is not clipped.
    assert metrics["interval"][1] > 1 and metrics["interval_method"] == "student_t"


def test_every_interval_names_its_method_and_what_it_is_over(report):
    region = report["regions"]["deeper"]
    for part in (region["nnit"], region["nnit"]["selected"], region["ghn"], region["nnit_minus_ghn"]):
        assert part["interval_method"] in ("student_t", "wilson", "none") and part["num_architectures"] == 2
    steps = report["steps"]["1"]["held_out_widths"]
    assert steps["num_architectures"] == len(steps["architectures"]) == 2
    assert steps["mean"] == pytest.approx(sum(row["mean"] for row in steps["architectures"]) / 2)
    for part in (report["widths"]["80"]["ghn"], report["unconditional"]["free"]):
        assert part["interval_method"] in ("student_t", "wilson")
    assert report["widths"]["80"]["ghn"]["num_networks"] == FEW["num_width_networks"]
    assert report["unconditional"]["free"]["num_networks"] == FEW["num_unconditional_networks"]
