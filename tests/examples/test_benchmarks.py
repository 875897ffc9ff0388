"""The structure of what benchmarks report; how long anything takes is not tested."""

import json

import pytest
import torch
from benchmark_generation import Arguments, main, report_tables, seconds_to_reach, sgd_curve


BALLAST = 2**30


@pytest.fixture(scope="module")
def ran(digits_pipeline_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "benchmark.json"
    arguments = Arguments(
        str(digits_pipeline_folder),
        output_path=str(path),
        hidden_sizes=(20, 17),
        steps=(1, 2),
        batches=(1, 3),
        num_scored=2,
        num_repeats=2,
        max_train_steps=5,
    )
    # Something large in this process, which must not count as memory of those that are measured.
    ballast = torch.ones(BALLAST // 4)
    main(arguments)
    del ballast
    return arguments, json.loads(path.read_text())


def test_one_network_is_timed_at_every_number_of_steps_and_set_against_sgd(ran):
    _, report = ran
    assert list(report["one_network"]) == ["1", "2"]
    for row in report["one_network"].values():
        assert row["seconds"] > 0
        assert row["sgd_seconds_ratio"] is None or row["sgd_seconds_ratio"] == row["sgd_seconds"] / row["seconds"]


def test_batches_are_timed_and_their_operations_counted(ran):
    _, report = ran
    for batch, row in report["batches"].items():
        assert row["networks_per_second"] == pytest.approx(int(batch) / row["seconds"])
        assert 0 < row["share_of_matmul_rate"] < 1
    per_network = [
        row["operations_per_second"] * row["seconds"] / int(batch) for batch, row in report["batches"].items()
    ]
    assert per_network[0] == pytest.approx(per_network[1])


def test_peak_memory_is_that_of_a_process_of_its_own(ran):
    _, report = ran
    assert BALLAST > report["memory"]["loaded_bytes"] > 50 * 2**20
    for row in report["memory"]["batches"].values():
        assert row["bytes_above_loaded"] == row["peak_bytes"] - report["memory"]["loaded_bytes"]


def test_the_report_says_how_it_was_made(ran):
    arguments, report = ran
    assert report["arguments"]["sgd_seeds"] == list(arguments.sgd_seeds)
    assert {"command", "versions", "num_threads"} <= set(report)


def test_the_tables_have_a_row_for_every_measurement(ran):
    _, report = ran
    steps, batches = report_tables(report).split("\n\n")[1::2]
    assert [line.split("|")[1].strip() for line in steps.splitlines()[2:]] == ["1", "2"]
    assert [line.split("|")[1].strip() for line in batches.splitlines()[2:]] == ["1", "3"]
    assert all(line.count("|") == 6 for table in (steps, batches) for line in table.splitlines())


def test_sgd_stops_when_it_is_as_good_as_asked(ran, digits):
    arguments, _ = ran
    curve = sgd_curve(digits, digits.splits.architecture([20]), Arguments(max_train_steps=500), 0, target=0.6)
    assert curve[-1][1] >= 0.6
    assert all(score < 0.6 for _, score in curve[:-1])
    assert len(sgd_curve(digits, digits.splits.architecture([20]), arguments, 0, target=1.1)) == 1


def test_the_time_to_reach_a_score_is_when_it_was_first_reached():
    curve = [(0.5, 0.3), (1.0, 0.8), (1.5, 0.7), (2.0, 0.9)]
    assert seconds_to_reach(curve, 0.75) == 1.0
    assert seconds_to_reach(curve, 0.9) == 2.0
    assert seconds_to_reach(curve, 0.95) == float("inf")
