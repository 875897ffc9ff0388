"""Pictures of an evaluation."""

import json

import pytest
from matplotlib.image import imread
from PIL import Image

from nnit_diffusers.cards import draw_pictures
from nnit_diffusers.cards.pictures import (
    DRAWINGS,
    REGION_LABELS,
    default_score_name,
    draw_regions,
    error_bars,
    region_label,
)
from nnit_diffusers.evaluation.tables import PICTURES, section_fingerprint


@pytest.fixture(scope="module")
def report(evaluation_path):
    return json.loads(evaluation_path.read_text())


@pytest.fixture
def rollouts(rollouts_path):
    return json.loads(rollouts_path.read_text())


@pytest.fixture(scope="module")
def drawn(report, tmp_path_factory):
    """Every picture of the evaluation."""
    folder = tmp_path_factory.mktemp("pictures")
    draw_pictures(report, folder)
    return folder


def drawn_texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_every_section_with_a_picture_gets_one(drawn):
    assert {file.stem for file in drawn.glob("*.png")} == set(DRAWINGS) == set(PICTURES)
    for file in drawn.glob("*.png"):
        pixels = imread(file)
        assert 1000 <= pixels.shape[1] <= 2000 and pixels.std() > 0.05


def test_a_section_that_was_not_evaluated_is_left_out(report, tmp_path):
    only_steps = {name: report[name] for name in ("settings", "runs", "steps")}
    assert draw_pictures(only_steps, tmp_path) == [tmp_path / "steps.png"]
    assert [file.name for file in tmp_path.glob("*.png")] == ["steps.png"]


def test_a_picture_has_the_fingerprint_of_its_section(report, drawn):
    for section in DRAWINGS:
        with Image.open(drawn / f"{section}.png") as picture:
            assert picture.text["Source"] == section_fingerprint(report, section)
    changed = json.loads(json.dumps(report))
    changed["steps"]["1"]["held_out_widths"]["mean"] += 0.01
    assert section_fingerprint(changed, "steps") != section_fingerprint(report, "steps")


def test_scores_are_named_after_the_metric_of_the_task(report, rollouts):
    assert default_score_name(report["settings"]) == "test accuracy"
    assert default_score_name(rollouts["settings"]) == "success on tiny_demand"


def test_pictures_of_rollouts_are_labelled_success(rollouts):
    figure = draw_regions(rollouts["regions"], rollouts, default_score_name(rollouts["settings"]))
    assert figure.axes[0].get_ylabel() == "success on tiny_demand (%)"
    texts = drawn_texts(figure)
    assert {"deeper\n(depth 4)\nn = 2", "wider\n(over 12)\nn = 2"} <= set(texts)
    assert not any("2603.00180" in text for text in texts)


def test_rounding_makes_no_bar_of_negative_length():
    assert error_bars({"mean": 0.95, "interval": [0.9500000000000001, 0.9499999999999998]}) == [[0.0], [0.0]]


def test_the_result_of_the_paper_is_drawn_for_its_tasks_only(rollouts):
    rollouts["settings"]["task"] = "pickcube"
    texts = drawn_texts(draw_regions(rollouts["regions"], rollouts, "success"))
    assert "arXiv 2603.00180: over 85%, best 10 of 100" in texts
    rollouts["settings"]["task"] = "stackcube-easy"
    texts = drawn_texts(draw_regions(rollouts["regions"], rollouts, "success"))
    assert not any("2603.00180" in text for text in texts)


@pytest.mark.parametrize("present", [("seen",), ("wider",), ("deeper", "seen")])
def test_regions_that_were_not_measured_are_left_out(present, rollouts):
    figure = draw_regions({region: rollouts["regions"][region] for region in present}, rollouts, "success")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    in_order = [region for region in REGION_LABELS if region in present]
    assert labels == [f"{region_label(region, rollouts)}\nn = 2" for region in in_order]


def test_a_section_without_the_parts_of_its_picture_is_left_out(report, tmp_path):
    unconditional = {name: part for name, part in report["unconditional"].items() if name != "free"}
    assert draw_pictures({"settings": report["settings"], "unconditional": unconditional}, tmp_path) == []
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.parametrize("section", sorted(DRAWINGS))
def test_every_axis_is_labelled(section, report):
    figure = DRAWINGS[section](report[section], report, "success rate")
    assert all(axes.get_xlabel() for axes in figure.axes)
    assert any("success rate" in text for text in drawn_texts(figure))


@pytest.mark.parametrize(
    "section, unit", [("regions", "architectures"), ("widths", "networks"), ("steps", "architectures")]
)
def test_pictures_with_intervals_name_their_method(section, unit, report):
    figure = DRAWINGS[section](report[section], report, "success rate")
    assert any(f"95% Student's t interval over {unit}" in text for text in drawn_texts(figure))


def test_the_picture_of_regions_shows_the_means_of_the_report(report):
    figure = draw_regions(report["regions"], report, "test accuracy")
    drawn = {round(float(line.get_ydata()[0]), 6) for line in figure.axes[0].lines if len(line.get_ydata()) == 1}
    for part in report["regions"].values():
        for summary in (part["nnit"], part["nnit"]["selected"], part["ghn"]):
            assert round(100 * summary["mean"], 6) in drawn
