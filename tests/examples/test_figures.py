import json
from dataclasses import replace

import evaluate_nnit
import plot_evaluation
import plot_weights
import pytest
import torch
from evaluation_report import section_fingerprint
from matplotlib.image import imread
from PIL import Image


@pytest.fixture(scope="module")
def evaluation_path(digits_pipeline_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("figures") / "evaluation.json"
    evaluate_nnit.main(
        evaluate_nnit.Arguments(
            str(digits_pipeline_folder),
            output_path=str(path),
            num_inference_steps=1,
            num_architectures=2,
            num_networks=2,
            num_selected=1,
            widths=(8, 20, 80),
            num_width_networks=2,
            num_unconditional_networks=4,
            num_budget_networks=2,
            num_compared_networks=3,
            num_references=3,
            num_ensemble=3,
            steps=(1, 2),
            num_step_architectures=2,
            num_step_networks=1,
        )
    )
    return path


def drawn_texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_every_section_of_an_evaluation_gets_a_picture(evaluation_path, tmp_path):
    plot_evaluation.main(plot_evaluation.Arguments(str(evaluation_path), str(tmp_path)))
    assert {file.stem for file in tmp_path.glob("*.png")} == set(evaluate_nnit.SECTIONS)
    for file in tmp_path.glob("*.png"):
        pixels = imread(file)
        assert 1000 <= pixels.shape[1] <= 2000 and pixels.std() > 0.05


def test_a_section_that_was_not_evaluated_is_left_out(evaluation_path, tmp_path):
    report = json.loads(evaluation_path.read_text())
    only_steps = tmp_path / "evaluation.json"
    only_steps.write_text(json.dumps({name: report[name] for name in ("settings", "runs", "steps")}))
    plot_evaluation.main(plot_evaluation.Arguments(str(only_steps), str(tmp_path)))
    assert [file.name for file in tmp_path.glob("*.png")] == ["steps.png"]


def test_pictures_are_written_to_the_folder_of_the_evaluation_by_default(rollouts_path, tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(rollouts_path.read_text())
    plot_evaluation.main(plot_evaluation.Arguments(str(path)))
    assert {file.name for file in tmp_path.iterdir()} == {"evaluation.json", "regions.png"}


def test_a_picture_has_the_fingerprint_of_its_section(evaluation_path, tmp_path):
    plot_evaluation.main(plot_evaluation.Arguments(str(evaluation_path), str(tmp_path)))
    report = json.loads(evaluation_path.read_text())
    for section in evaluate_nnit.SECTIONS:
        with Image.open(tmp_path / f"{section}.png") as picture:
            assert picture.text["Source"] == section_fingerprint(report, section)
    fingerprint = section_fingerprint(report, "steps")
    report["steps"]["1"]["held_out_widths"]["mean"] += 0.01
    assert section_fingerprint(report, "steps") != fingerprint


def test_pictures_of_rollouts_are_labelled_success(rollouts_path):
    report = json.loads(rollouts_path.read_text())
    figure = plot_evaluation.draw_regions(report["regions"], report, plot_evaluation.default_score_name("tiny_demand"))
    assert figure.axes[0].get_ylabel() == "success on tiny_demand (%)"
    texts = drawn_texts(figure)
    assert {"deeper\n(depth 4)\nn = 2", "wider\n(over 12)\nn = 2"} <= set(texts)
    assert not any("2603.00180" in text for text in texts)


def test_rounding_makes_no_bar_of_negative_length():
    assert plot_evaluation.error_bars({"mean": 0.95, "interval": [0.9500000000000001, 0.9499999999999998]}) == [
        [0.0],
        [0.0],
    ]


def test_the_result_of_the_paper_is_drawn_for_its_tasks_only(rollouts_path):
    report = json.loads(rollouts_path.read_text())
    report["settings"]["task"] = "pickcube"
    texts = drawn_texts(plot_evaluation.draw_regions(report["regions"], report, "success"))
    assert "arXiv 2603.00180: over 85%, best 10 of 100" in texts
    report["settings"]["task"] = "stackcube-easy"
    texts = drawn_texts(plot_evaluation.draw_regions(report["regions"], report, "success"))
    assert not any("2603.00180" in text for text in texts)


@pytest.mark.parametrize("present", [("seen",), ("wider",), ("deeper", "seen")])
def test_regions_that_were_not_measured_are_left_out(present, rollouts_path):
    report = json.loads(rollouts_path.read_text())
    figure = plot_evaluation.draw_regions({region: report["regions"][region] for region in present}, report, "success")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    in_order = [region for region in plot_evaluation.REGION_LABELS if region in present]
    assert labels == [f"{plot_evaluation.region_label(region, report)}\nn = 2" for region in in_order]


def test_a_section_without_the_parts_of_its_picture_is_left_out(evaluation_path, tmp_path):
    report = json.loads(evaluation_path.read_text())
    report["unconditional"].pop("free")
    partial = tmp_path / "evaluation.json"
    partial.write_text(json.dumps({name: report[name] for name in ("settings", "unconditional")}))
    plot_evaluation.main(plot_evaluation.Arguments(str(partial), str(tmp_path)))
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.parametrize("section", sorted(plot_evaluation.DRAWINGS))
def test_every_axis_is_labelled(section, evaluation_path):
    report = json.loads(evaluation_path.read_text())
    figure = plot_evaluation.DRAWINGS[section](report[section], report, "success rate")
    assert all(axes.get_xlabel() for axes in figure.axes)
    assert any("success rate" in text for text in drawn_texts(figure))


@pytest.mark.parametrize(
    "section, unit", [("regions", "architectures"), ("widths", "networks"), ("steps", "architectures")]
)
def test_pictures_with_intervals_name_their_method(section, unit, evaluation_path):
    report = json.loads(evaluation_path.read_text())
    figure = plot_evaluation.DRAWINGS[section](report[section], report, "success rate")
    assert any(f"95% Student's t interval over {unit}" in text for text in drawn_texts(figure))


def test_the_picture_of_regions_shows_the_means_of_the_report(evaluation_path):
    report = json.loads(evaluation_path.read_text())
    figure = plot_evaluation.draw_regions(report["regions"], report, "test accuracy")
    drawn = {round(float(line.get_ydata()[0]), 6) for line in figure.axes[0].lines if len(line.get_ydata()) == 1}
    for part in report["regions"].values():
        for summary in (part["nnit"], part["nnit"]["selected"], part["ghn"]):
            assert round(100 * summary["mean"], 6) in drawn


@pytest.fixture
def weights_arguments(digits_pipeline_folder, tmp_path):
    return plot_weights.Arguments(
        str(digits_pipeline_folder),
        output_dir=str(tmp_path),
        widths=(16, 20),
        num_networks=2,
        num_train_steps=2,
    )


def test_the_picture_of_weights_has_a_map_for_every_network(weights_arguments):
    matrices = plot_weights.make_matrices(weights_arguments)
    shapes = {name: list(matrix.shape) for name, matrix in matrices.items()}
    assert shapes == {
        "ghn.16": [2, 16, 16],
        "sgd.16": [2, 16, 16],
        "ghn.20": [2, 20, 20],
        "sgd.20": [2, 20, 20],
    }
    figure = plot_weights.draw(matrices, weights_arguments.widths)
    # One more axes for the colour scale.
    assert sum(len(axes.images) for axes in figure.axes) == 8 and len(figure.axes) == 9


def test_the_picture_of_weights_is_written(weights_arguments, tmp_path):
    plot_weights.main(weights_arguments)
    assert imread(tmp_path / "weights.png").std() > 0.05


def test_sgd_trains_every_network_from_an_initialisation_of_its_own(digits, weights_arguments):
    architecture = digits.regions.architecture([16, 16])
    untrained = plot_weights.train(digits, architecture, replace(weights_arguments, num_train_steps=0))
    trained = plot_weights.train(digits, architecture, replace(weights_arguments, num_train_steps=60))
    assert not torch.equal(untrained["0.weight"][0], untrained["0.weight"][1])
    inputs, labels = digits.data("train")
    standardised = (inputs - digits.observation_mean) / digits.observation_std
    losses = [
        digits.loss(plot_weights.batched_forward(stacked, standardised), labels) for stacked in (untrained, trained)
    ]
    assert (losses[1] < 0.6 * losses[0]).all()
