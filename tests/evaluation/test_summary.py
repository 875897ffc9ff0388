"""Intervals of means and of differences."""

import pytest

from nnit_diffusers import EvaluationResult, MLPArchitecture
from nnit_diffusers.evaluation import mean_interval, wilson_interval
from nnit_diffusers.evaluation.summary import add_interval, difference_summary, with_interval
from nnit_diffusers.tasks import Score


def test_an_interval_is_never_narrower_than_wilsons_over_all_episodes():
    equal = add_interval({"mean": 1.0, "num_episodes": 2000}, [1.0, 1.0])
    assert equal["interval"] == list(wilson_interval(2000, 2000))
    assert (equal["interval_method"], equal["num_architectures"]) == ("wilson", 2)
    # a single value has no variation to estimate
    single = add_interval({"mean": 0.5, "num_episodes": 20}, [0.5], unit="num_networks")
    assert single["interval"] == list(wilson_interval(10, 20))
    assert (single["interval_method"], single["num_networks"]) == ("wilson", 1)


def test_an_interval_that_wilsons_exceeds_on_one_side_is_widened_on_that_side():
    # a lower bound of few episodes far below, an upper bound of values that vary far above
    scores = [0.5, 0.5, 0.5, 0.9]
    low, high = mean_interval(scores)
    wilson_low, wilson_high = wilson_interval(60, 100)
    assert low < wilson_low and wilson_high < high
    few = add_interval({"mean": 0.6, "num_episodes": 5}, scores)
    assert few["interval"] == [min(low, wilson_interval(3, 5)[0]), max(high, wilson_interval(3, 5)[1])]
    # Wilson's lower bound lies below that of nearly equal values, and contains all of it
    close = add_interval({"mean": 0.6, "num_episodes": 10}, [0.59, 0.61])
    assert close["interval"] == list(wilson_interval(6, 10)) and close["interval_method"] == "wilson"


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
    # a difference in points is not clipped
    assert metrics["interval"][1] > 1 and metrics["interval_method"] == "student_t"


def test_returns_have_intervals_over_architectures_and_over_episodes():
    shapes = [MLPArchitecture(2, (width,), 1) for width in (4, 4, 5, 6)]
    metrics = [
        {"mean_return": mean, "return_std": 10.0, "return_of_teacher": mean / 200} for mean in (100, 110, 90, 96)
    ]
    results = [
        EvaluationResult.from_score(Score(3, 4, metric), shape) for metric, shape in zip(metrics, shapes, strict=True)
    ]
    summary = with_interval(results)
    assert summary["mean_return"] == 99
    assert summary["mean_return_interval"] == pytest.approx(mean_interval([100, 110, 90, 96], shapes))
    assert summary["return_of_teacher_interval"] == pytest.approx(mean_interval([0.5, 0.55, 0.45, 0.48], shapes))
    # of one network: over its 4 episodes, with 3.182 standard errors
    assert results[0].mean_return_interval == pytest.approx((100 - 15.91, 100 + 15.91), abs=0.01)


def test_scores_that_are_no_shares_have_no_interval_of_wilson():
    shapes = [MLPArchitecture(2, (width,), 1) for width in (4, 5)]
    results = [
        EvaluationResult.from_score(Score(None, 50, {}, value, (value - 1, 1.0)), shape)
        for value, shape in zip((-0.5, 0.7), shapes, strict=True)
    ]
    summary = with_interval(results)
    assert (summary["is_share"], summary["interval_method"]) == (False, "student_t")
    assert summary["interval"][0] < -0.5 and summary["interval"][1] > 1
    with pytest.raises(ValueError, match="`num_successes`, or `value` and `interval`"):
        EvaluationResult.from_score(Score(None, 50), None)
