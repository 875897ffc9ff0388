"""What every section of an evaluation measures."""

from dataclasses import replace

import pytest
from tiny import tiny_pipeline
from tiny_tasks import TinyDemandTask
from untrained import FEW

from nnit_diffusers import MLP, MLPArchitecture, evaluate
from nnit_diffusers.evaluation import select_top
from nnit_diffusers.evaluation.pipeline import evaluate_pipeline
from nnit_diffusers.evaluation.sections import Evaluator
from nnit_diffusers.evaluation.sections.unconditional import meets
from nnit_diffusers.regions import REGIONS
from nnit_diffusers.tasks import Score


def evaluator_of(pipe, task, config):
    return Evaluator(pipe, task, config.for_task(task), lambda count: None)


# Regions


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


def test_the_best_networks_are_chosen_on_validation_data_and_scored_on_test_data(report, config, pipe, digits):
    evaluator = evaluator_of(pipe, digits, config)
    for region, seed_name in zip(REGIONS, ("train", *REGIONS[1:])):
        drawn = evaluator.sample(region, config.num_architectures, evaluator.generator("splits", seed_name))
        for architecture, row in zip(drawn, report["regions"][region]["architectures"], strict=True):
            generator = evaluator.generator("splits", seed_name, str(architecture))
            networks = pipe(architecture, num_networks=3, num_inference_steps=1, generator=generator).networks
            (best,) = select_top([result.score for result in evaluate(networks, digits, split="validation")], 1)
            scores = [result.score for result in evaluate(networks, digits, split="test")]
            assert row["hidden_sizes"] == list(architecture.hidden_sizes)
            assert row["nnit"]["mean"] == pytest.approx(sum(scores) / 3)
            assert row["nnit"]["selected"]["mean"] == scores[best]


class OppositeTask(TinyDemandTask):
    """Wide networks are the best on validation data, and the worst on test data."""

    name = "opposite"

    def score(self, networks, *, split="validation", **kwargs):
        widths = [network.architecture.hidden_sizes[0] for network in networks]
        return [Score(width if split == "validation" else 100 - width, 100) for width in widths]


@pytest.mark.parametrize("num_final_episodes", [None, 50])
def test_what_is_best_on_test_data_has_no_say_in_the_choice(num_final_episodes, config):
    task = OppositeTask()
    networks = [MLP.from_architecture(task.regions.architecture([width])) for width in (4, 12, 8)]
    chosen = replace(config, num_selected=2, num_episodes=20, num_final_episodes=num_final_episodes)
    results, selected = evaluator_of(None, task, chosen).select(networks)
    # networks of 12 and 8 units, the best on validation data
    assert [result.score for result in selected] == [0.88, 0.92]
    on_validation = num_final_episodes is not None
    assert [result.score for result in results] == ([0.04, 0.12, 0.08] if on_validation else [0.96, 0.88, 0.92])


def test_with_final_episodes_only_the_best_networks_run_in_test_episodes(config, pipe, digits, tmp_path):
    rolled_out = replace(
        config,
        sections=("regions",),
        regions=("deeper",),
        num_episodes=20,
        num_ghn_networks=2,
        num_final_episodes=50,
    )
    report = evaluate_pipeline(pipe, digits, tmp_path / "evaluation.json", rolled_out)
    row = report["regions"]["deeper"]["architectures"][0]
    architecture = digits.regions.architecture(row["hidden_sizes"])
    generator = evaluator_of(pipe, digits, rolled_out).generator("splits", "deeper", str(architecture))
    networks = pipe(architecture, num_networks=3, num_inference_steps=1, generator=generator).networks
    screened = [r.score for r in evaluate(networks, digits, 20, seed=rolled_out.seed, split="validation")]
    assert row["nnit"]["mean"] == pytest.approx(sum(screened) / 3)
    best = networks[select_top(screened, 1)[0]]
    (final,) = evaluate([best], digits, 50, seed=rolled_out.seed, split="test")
    assert row["nnit"]["selected"]["mean"] == final.score


def test_no_other_than_the_best_networks_touch_the_test_episodes(config, tmp_path):
    """The task records the split of every call."""
    task = TinyDemandTask()
    screened = replace(
        config,
        sections=("regions",),
        regions=("seen",),
        num_episodes=20,
        num_final_episodes=30,
        widths=None,
        documented_architecture=None,
    )
    evaluate_pipeline(tiny_pipeline(ghn=True), task, tmp_path / "evaluation.json", screened)
    # two architectures: all networks, the best one, the GHN's, and the nested slice
    calls = [("validation", 20, 1234), ("test", 30, 1234), *[("validation", 20, 1234)] * 2]
    assert task.calls == 2 * calls


# Architectures chosen by the model


def test_the_best_of_unconditional_generation_are_chosen_on_validation_data_too(
    report, episodes_config, in_episodes, pipe, digits, tmp_path
):
    rolled_out = evaluate_pipeline(
        pipe, in_episodes(), tmp_path / "rolled_out.json", replace(episodes_config, sections=("unconditional",))
    )
    generator = evaluator_of(pipe, digits, episodes_config).generator("joint", "free")
    networks = pipe(None, num_networks=6, num_inference_steps=1, generator=generator).networks
    for part, num_episodes, num_final_episodes in (
        (report["unconditional"]["free"], None, None),
        (rolled_out["unconditional"]["free"], 20, 50),
    ):
        options = {"seed": episodes_config.seed, "split": "validation"}
        screened = [result.score for result in evaluate(networks, digits, num_episodes, **options)]
        best = networks[select_top(screened, 1)[0]]
        (final,) = evaluate([best], digits, num_final_episodes, episodes_config.seed)
        assert (part["selected"]["mean"], part["selected"]["num_networks"]) == (final.score, 1)
        if num_episodes is not None:
            assert part["mean"] == pytest.approx(sum(screened) / 6)


def test_unconditional_generation_violates_no_constraint(report):
    unconditional, settings = report["unconditional"], report["settings"]
    assert {part["num_violations"] for part in unconditional.values()} == {0}
    assert max(unconditional["max_parameters"]["networks"]["num_parameters"]) <= settings["max_parameters"]
    least, most = settings["parameter_range"]
    in_range = unconditional["parameter_range"]["networks"]["num_parameters"]
    assert least <= min(in_range) and max(in_range) <= most
    filled_in = [sizes.split("-") for sizes in unconditional["fill_in"]["networks"]["hidden_sizes"]]
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


# Widths and denoising steps


def test_widths_outside_the_training_grid_are_narrower_or_wider(report, digits):
    regions = {width: part["region"] for width, part in report["widths"].items()}
    assert regions == {"8": "narrower", "20": digits.regions.region_of([20, 20]), "80": "wider"}


def test_every_number_of_steps_is_scored_on_both_held_out_regions_and_timed(report):
    assert list(report["steps"]) == ["1", "2"]
    for part in report["steps"].values():
        # two regions of two architectures with a network each
        assert part["num_networks"] == 4
        for region in ("held_out_combinations", "held_out_widths"):
            assert 0 < part[region]["mean"] < 1
            assert part[region]["seconds_per_network"] > 0


def test_depths_have_several_architectures_of_trained_widths_and_go_beyond_the_grid(report, digits):
    assert [part["is_trained"] for part in report["depths"].values()] == [True, True, False]
    for depth, part in report["depths"].items():
        sizes = [row["hidden_sizes"] for row in part["architectures"]]
        assert len({tuple(each) for each in sizes}) == 2 and {len(each) for each in sizes} == {int(depth)}
        assert {width for each in sizes for width in each} <= set(digits.regions.train_widths)
        assert part["nnit"]["num_architectures"] == 2 and 0 < part["nnit"]["mean"] < 1
        # slices exist for trained depths only
        assert ("nested" in part) == part["is_trained"]


# Intervals


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
