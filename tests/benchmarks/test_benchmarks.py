"""Structure of benchmark reports; times are not tested."""

import json
from pathlib import Path

import compare_devices
import pytest
import torch
import training_step
from benchmark_generation import Arguments, main, report_tables
from launching import fresh_accelerate
from safetensors.torch import save_file
from training_cost import compare_row, evaluation_steps, seconds_not_reached, seconds_to_reach, sgd_curve


ROOT = Path(__file__).parents[2]
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
    # large memory of this process, which must not count for the processes that are measured
    ballast = torch.ones(BALLAST // 4)
    with fresh_accelerate():
        main(arguments)
    del ballast
    return arguments, json.loads(path.read_text())


def test_one_network_is_timed_at_every_number_of_steps_and_compared_with_sgd(ran):
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


def test_a_training_step_is_timed_and_its_operations_counted(ran):
    _, report = ran
    step = report["training"]
    assert step["seconds"] > 0 and step["networks"] == 32
    assert 0 < step["share_of_matmul_rate"] < 1
    assert step["operations_per_second"] == pytest.approx(
        step["share_of_matmul_rate"] * step["matmul_operations_per_second"]
    )


def test_peak_memory_is_of_a_separate_process(ran):
    _, report = ran
    assert BALLAST > report["memory"]["loaded_bytes"] > 50 * 2**20
    for row in report["memory"]["batches"].values():
        assert row["bytes_above_loaded"] == row["peak_bytes"] - report["memory"]["loaded_bytes"]


def test_the_report_records_its_arguments_command_and_versions(ran):
    arguments, report = ran
    assert report["arguments"]["sgd_seeds"] == list(arguments.sgd_seeds)
    assert {"command", "versions", "num_threads"} <= set(report)


def test_the_tables_have_a_row_for_every_measurement(ran):
    _, report = ran
    steps, batches = report_tables(report).split("\n\n")[1::2]
    assert "A training step of the transformer, on 32 networks" in report_tables(report)
    assert [line.split("|")[1].strip() for line in steps.splitlines()[2:]] == ["1", "2"]
    assert [line.split("|")[1].strip() for line in batches.splitlines()[2:]] == ["1", "3"]
    assert all(line.count("|") == 6 for table in (steps, batches) for line in table.splitlines())


def test_sgd_stops_when_it_reaches_the_target(ran, digits):
    arguments, _ = ran
    curve = sgd_curve(digits, digits.regions.architecture([20]), Arguments(max_train_steps=500), 0, target=0.6)
    assert curve[-1][1] >= 0.6
    assert all(score < 0.6 for _, score in curve[:-1])
    assert len(sgd_curve(digits, digits.regions.architecture([20]), arguments, 0, target=1.1)) == 1


def test_the_time_to_a_score_is_that_of_the_first_evaluation_that_reaches_it():
    curve = [(0.5, 0.3), (1.0, 0.8), (1.5, 0.7), (2.0, 0.9)]
    assert seconds_to_reach(curve, 0.75) == 1.0
    assert seconds_to_reach(curve, 0.9) == 2.0
    assert seconds_to_reach(curve, 0.95) == float("inf")
    assert seconds_not_reached(curve, 0.75) == 0.5
    assert seconds_not_reached(curve, 0.2) == 0.0
    assert seconds_not_reached(curve, 0.95) == float("inf")


def test_a_training_step_is_timed_in_its_parts(digits_pipeline_folder, tmp_path, capsys):
    arguments = training_step.Arguments(
        str(tmp_path / "step.json"), str(digits_pipeline_folder), train_batch_size=4, num_repeats=1
    )
    with fresh_accelerate():
        training_step.main(arguments)
    report = json.loads((tmp_path / "step.json").read_text())
    assert (report["device"], report["networks"]) == ("cpu", 4)
    seconds, operations = report["seconds"], report["operations"]
    assert seconds["step"] == seconds["prepare"] + seconds["train"]
    assert 0 < operations["generate"] == operations["prepare"] < operations["train"]
    assert 0 < report["rates"]["step"]["share_of_matmul_rate"] < 1
    assert "4 networks on" in capsys.readouterr().out


def test_evaluation_steps_grow_apart_and_are_bounded():
    assert list(evaluation_steps(20, 5, 1.0)) == [5, 10, 15, 20]
    assert list(evaluation_steps(100, 10, 2.0)) == [10, 30, 70]
    assert list(evaluation_steps(4, 5, 1.5)) == []


def test_the_interval_of_a_ratio_spans_two_evaluations():
    curves = [[(1.0, 0.5), (2.0, 0.9)], [(1.0, 0.5), (3.0, 0.9)], [(1.0, 0.5), (9.0, 0.6)]]
    row = compare_row(0.5, 0.9, 100, curves)
    assert (row["sgd_seconds"], row["sgd_seconds_interval"]) == (3.0, [1.0, 3.0])
    assert (row["sgd_seconds_ratio"], row["sgd_seconds_ratio_interval"]) == (6.0, [2.0, 6.0])
    assert row["sgd_score_standard_error"] == pytest.approx(0.03)
    assert compare_row(0.5, 0.95, 100, curves)["sgd_seconds_ratio"] is None
    assert compare_row(0.5, 0.9, 100, []) == {}


def test_a_robot_task_is_benchmarked_by_rollouts(robot_pipeline_folder, simulator, tmp_path, capsys):
    # of the statistics that the pipeline has
    data = {"observations": 0.1 + 0.5 * torch.randn(4000, 42), "actions": torch.rand(4000, 8)}
    save_file(data, tmp_path / "demonstrations-00000.safetensors")
    arguments = Arguments(
        str(robot_pipeline_folder),
        task="pickcube",
        data_dir=str(tmp_path),
        output_path=str(tmp_path / "benchmark.json"),
        hidden_sizes=(128, 256),
        steps=(1,),
        batches=(1,),
        num_scored=2,
        num_episodes=1,
        num_repeats=1,
        max_train_steps=2,
        validation_steps=1,
        sgd_seeds=(0,),
        evaluation_workers=(1,),
        num_timed_episodes=2,
    )
    with fresh_accelerate():
        main(arguments)
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert report["one_network"]["1"]["num_validation_episodes"] == 1
    assert report["one_network"]["1"]["sgd_seconds"] > 0
    rollouts = report["rollouts"]["1"]
    assert rollouts["episodes_per_second"] == pytest.approx(2 / rollouts["seconds"])
    assert "Rollouts in 1 process(es)" in capsys.readouterr().out


def test_without_demonstrations_nothing_is_measured(robot_pipeline_folder, tmp_path):
    arguments = Arguments(str(robot_pipeline_folder), task="pickcube", output_path=str(tmp_path / "benchmark.json"))
    with pytest.raises(ValueError, match="`data_dir` must be a folder of demonstrations"):
        main(arguments)


def test_the_page_of_results_has_the_tables_of_the_committed_report():
    report = json.loads((ROOT / "nnit" / "digits" / "benchmark.json").read_text())
    results = (ROOT / "docs" / "results.md").read_text()
    for table in report_tables(report).split("\n\n")[1::2]:
        assert table in results


def test_devices_and_precisions_are_compared_on_the_same_noise(digits_pipeline_folder, tmp_path, capsys):
    arguments = compare_devices.Arguments(
        str(tmp_path / "devices.json"),
        str(digits_pipeline_folder),
        task="digits",
        hidden_sizes=(20, 17),
        devices=("cpu", "cpu"),
        batches=(2,),
        num_inference_steps=2,
        num_repeats=1,
    )
    compare_devices.main(arguments)
    report = json.loads((tmp_path / "devices.json").read_text())
    differences = {row["dtype"]: row["relative_difference_from_first"] for row in report["generation"]}
    assert differences["float32"] == 0.0
    assert 0.0 < differences["bfloat16"] < 0.2
    first, _, third, _ = report["generation"]
    assert third["times_as_fast_as_first"] == first["seconds"] / third["seconds"]
    assert [row["num_networks"] for row in report["training"]] == [32, 32]
    assert capsys.readouterr().out.count("| cpu ") == 6
