"""The code of the web demo, without a browser."""

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image
from safetensors.torch import load_file
from tiny import IN_FEATURES, tiny_pipeline
from untrained import save_untrained

from nnit_diffusers import EvaluationResult
from nnit_diffusers.tasks import Score, get_task
from nnit_diffusers.tasks.maniskill.environments import NoVulkanDeviceError, check_simulator
from nnit_diffusers.tasks.tables import load_table_task
from nnit_diffusers.writing import write_json


ROOT = Path(__file__).parents[2]
SPACE = ROOT / "space"
sys.path.insert(0, str(SPACE))

import models  # noqa: E402
import pictures  # noqa: E402
from canvas import CANVAS_SIDE, decode_drawing, to_digit, to_mnist  # noqa: E402
from models import Model, Request  # noqa: E402


@pytest.fixture(scope="module")
def digits():
    return Model(str(ROOT / "nnit/digits"))


@pytest.fixture
def pushcube(pushcube_folder):
    return Model(str(pushcube_folder))


def request(**changes):
    default = {"hidden_sizes": (20, 18), "max_parameters": None, "num_networks": 2, "steps": 2, "seed": 0}
    return Request(**{**default, **changes})


def test_every_published_folder_is_offered_and_the_environment_can_name_others(monkeypatch, tmp_path):
    monkeypatch.delenv("NNIT_MODELS", raising=False)
    published = [f"nnit/{path.parent.name}" for path in sorted(ROOT.glob("nnit/*/model_index.json"))]
    assert models.model_names(ROOT) == published
    assert models.model_names(tmp_path) == ["nnit/digits"]
    monkeypatch.setenv("NNIT_MODELS", "nnit/pickcube, me/mine")
    assert models.model_names(ROOT) == ["nnit/pickcube", "me/mine"]


def test_the_default_steps_are_the_fewest_without_lower_scores(digits):
    steps = digits.evaluation["steps"]
    usual = str(digits.evaluation["settings"]["num_inference_steps"])
    for region in ("held_out_combinations", "held_out_widths"):
        assert steps[str(digits.default_steps)][region]["mean"] >= steps[usual][region]["mean"]
    fewer = [number for number in map(int, steps) if number < digits.default_steps]
    assert all(
        any(
            steps[str(number)][region]["mean"] < steps[usual][region]["mean"]
            for region in steps[usual]
            if "held" in region
        )
        for number in fewer
    )


def test_generated_networks_are_scored_shown_and_exported(digits):
    made = digits.generate(request(num_networks=3))
    digits.score(made)
    scores = [result.score for result in made.results]
    assert len(scores) == 3 and scores[made.best] == max(scores) > 0.85
    card = pictures.network_card(made, digits)
    assert f"{65 * 20 + 21 * 18 + 19 * 10:,}" in card and f"{100 * max(scores):.1f}%" in card
    assert card.count("data:image/png;base64") == 3
    safetensors, onnx = made.export()
    assert torch.equal(load_file(safetensors)["0.weight"], made.shown.state_dict()["0.weight"])
    assert Path(onnx).parent == made.folder
    made.close()
    assert not made.folder.exists()


def test_the_model_chooses_within_a_budget(digits):
    made = digits.generate(request(hidden_sizes=None, max_parameters=2500, num_networks=4))
    assert all(network.architecture.num_parameters <= 2500 for network in made.networks)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_networks": 9},
        {"num_networks": True},
        {"steps": 21},
        {"steps": 1.5},
        {"seed": -1},
        {"seed": None},
        {"hidden_sizes": ()},
        {"hidden_sizes": (32,) * 8},
        {"hidden_sizes": (15,)},
        {"hidden_sizes": (257,)},
        {"hidden_sizes": None, "max_parameters": 1209},
        {"hidden_sizes": None, "max_parameters": 10**9},
    ],
    ids=str,
)
def test_a_request_out_of_bounds_is_refused_in_one_sentence(digits, changes):
    with pytest.raises(ValueError, match=r"\AThe [^\n]* must be an integer from [^\n]*\.\Z"):
        digits.generate(request(**changes))


def test_generation_stops_after_a_time_limit(digits, monkeypatch):
    monkeypatch.setattr(models, "MAX_SECONDS", 0.0)
    with pytest.raises(TimeoutError, match="request fewer or smaller networks"):
        digits.generate(request())


def test_sizes_are_compared(digits):
    all_made = digits.compare([32, 16], depth=1, num_networks=2, seed=0)
    assert [made.shown.architecture.hidden_sizes for made in all_made] == [(16,), (32,)]
    table = pictures.comparison(all_made, digits)
    assert re.findall(r"<th>(\d+)</th><td>([\d,]+)</td>", table) == [("16", "1,210"), ("32", "2,410")]
    with pytest.raises(ValueError, match="Choose 1 to 6 widths"):
        digits.compare([], depth=1, num_networks=2, seed=0)


def test_drawn_digits_are_classified_as_well_as_scanned_ones(digits):
    """Validation digits enlarged and off-centre on the canvas are as readable as the originals."""
    made = digits.generate(request(hidden_sizes=(48, 40)))
    inputs, labels = (tensor[:120] for tensor in digits.task.data("validation"))
    right = []
    for image, label in zip(inputs, labels):
        drawn = np.zeros((CANVAS_SIDE, CANVAS_SIDE))
        grey = Image.fromarray((image.view(8, 8).numpy() * 255 / 16).astype(np.uint8))
        drawn[30:130, 5:105] = np.asarray(grey.resize((100, 100), Image.Resampling.BICUBIC)) / 255
        right.append((digits.read(made.networks, to_digit(drawn)).argmax(dim=1) == label).float().mean())
    scanned = torch.cat([(network(inputs).argmax(dim=1) == labels).float() for network in made.networks]).mean()
    assert np.mean(right) > float(scanned) - 0.05


def test_a_drawing_is_cropped_centred_and_averaged():
    drawing = np.zeros((CANVAS_SIDE, CANVAS_SIDE))
    drawing[10:74, 100:116] = 1  # a bar, four times as high as wide
    digit = to_digit(drawing)
    assert digit.shape == (8, 8)
    assert np.array_equal(digit[:, 3:5], np.full((8, 2), 16)) and digit.sum() == 16 * 16
    assert to_digit(np.zeros((CANVAS_SIDE, CANVAS_SIDE))) is None


def test_a_drawing_for_mnist_is_scaled_to_twenty_pixels_around_its_centre_of_mass():
    drawing = np.zeros((CANVAS_SIDE, CANVAS_SIDE))
    drawing[10:74, 100:116] = 1  # a bar, four times as high as wide
    image = to_mnist(drawing)
    assert image.shape == (28, 28) and image.dtype == np.float32
    rows, columns = (np.flatnonzero(image.sum(axis=axis)) for axis in (1, 0))
    assert (rows[0], rows[-1]) == (4, 23) and (columns[0], columns[-1]) == (12, 16)
    # a heavy side draws the middle of the image towards it
    drawing[10:26, 100:140] = 1
    rows = np.flatnonzero(to_mnist(drawing).sum(axis=1))
    assert rows[0] > 4 and len(rows) == 20
    assert to_mnist(np.zeros((CANVAS_SIDE, CANVAS_SIDE))) is None
    # a wide stroke at the edge stays within the image
    line = np.zeros((CANVAS_SIDE, CANVAS_SIDE))
    line[0:6, :] = 1
    assert to_mnist(line).sum() > 0


def test_images_of_mnist_drawn_again_stay_as_they_are():
    """An image in the format of MNIST, drawn ten times as large at another place, comes back."""
    mnist = np.zeros((28, 28), dtype=np.float32)
    mnist[4:24, 11:17] = 1
    mnist[4:8, 8:20] = 1
    mnist[20:24, 8:20] = 1
    drawing = np.zeros((CANVAS_SIDE, CANVAS_SIDE))
    drawing[20:160, 0:140] = np.kron(mnist, np.ones((5, 5)))
    assert np.abs(to_mnist(drawing) - mnist).mean() < 0.02


def test_networks_of_mnist_read_drawings_where_its_images_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    statistics = {"observation_mean": [0.1] * 784, "observation_std": [0.3] * 784}
    mnist = Model(str(save_untrained(tmp_path / "nnit" / "mnist", get_task("mnist"), statistics)))
    assert mnist.reads_drawings and mnist.cannot_score().startswith("This machine lacks the images")
    made = mnist.generate(request())
    drawing = np.zeros((CANVAS_SIDE, CANVAS_SIDE))
    drawing[10:74, 100:116] = 1
    page = pictures.readings(to_mnist(drawing), made, mnist)
    assert page.count("<li>") == 2 and "28 × 28 pixels" in page
    assert mnist.read(made.networks, to_mnist(drawing)).shape == (2, 10)


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(b"abc").decode(), None], ids=str)
def test_invalid_drawings_are_refused(text):
    with pytest.raises(ValueError, match="drawing"):
        decode_drawing(text)


def test_requirements_have_the_pins_of_the_constraints():
    pins = set((ROOT / "constraints.txt").read_text().splitlines())
    required = [line for line in (SPACE / "requirements.txt").read_text().splitlines() if line[0] != "#"]
    assert required.pop().startswith("nnit-diffusers[space] @ ")
    assert required and set(required) <= pins
    gradio = next(line for line in required if line.startswith("gradio=="))
    assert f"sdk_version: {gradio.removeprefix('gradio==')}\n" in (SPACE / "README.md").read_text()


def test_requirements_are_valid_and_consistent_for_pip(tmp_path):
    *pinned, package = (SPACE / "requirements.txt").read_text().splitlines()
    assert Requirement(package).extras == {"space"} and Requirement(package).url.startswith("git+https://")
    # the pinned versions are installed, so pip needs no index
    (tmp_path / "requirements.txt").write_text("\n".join(pinned))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "-r", "requirements.txt"]
    resolved = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert resolved.returncode == 0, resolved.stderr
    assert "Would install" not in resolved.stdout


@pytest.mark.filterwarnings("ignore")  # ManiSkill's own
def test_a_robot_is_filmed(pushcube, monkeypatch):
    try:
        check_simulator()
    except NoVulkanDeviceError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(models, "NUM_EPISODES", 2)
    monkeypatch.setattr(models, "NUM_FILMED", 1)
    made = pushcube.generate(request(num_networks=1))
    try:
        pushcube.score(made)
        path, num_successes = pushcube.film(made)
        assert Path(path).stat().st_size > 1000 and Path(path).parent == made.folder
        assert 0 <= num_successes <= 1 and made.results[0].num_episodes == 2
        assert "Success" in pictures.network_card(made, pushcube)
    finally:
        made.close()
        pushcube.close()


def test_a_missing_vulkan_device_is_reported():
    script = "import nnit_diffusers.tasks.maniskill.tasks, models; print(models._cannot_simulate())"
    hidden = {"VK_DRIVER_FILES": "/nonexistent", "VK_ICD_FILENAMES": "/nonexistent"}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=SPACE, env={**os.environ, **hidden}, capture_output=True, text=True, timeout=300)
    assert "This machine cannot run the robot simulator" in run.stdout, run.stderr


def test_a_pipeline_of_a_table_shows_the_metric_of_its_task(tmp_path):
    random = np.random.default_rng(0)
    frame = pandas.DataFrame(random.normal(size=(90, IN_FEATURES)), columns=list("abcde"))
    frame["kind"] = [f"class {index}" for index in frame[["a", "b", "c"]].to_numpy().argmax(axis=1)]
    frame.to_csv(tmp_path / "table.csv", index=False)
    tiny_pipeline().save_pretrained(tmp_path / "pipeline")
    write_json(tmp_path / "pipeline" / "task.json", load_table_task(tmp_path / "table.csv", "kind").spec())
    model = Model(str(tmp_path / "pipeline"))
    assert (model.score_name, model.unit, model.is_robot) == ("Accuracy", "samples never trained on", False)
    made = model.generate(request(hidden_sizes=(18,), steps=1))
    model.score(made)
    card = pictures.network_card(made, model)
    assert "<dt>Accuracy</dt>" in card and "samples never trained on" in card


def test_a_score_below_zero_stays_on_the_scale():
    bar = pictures.score_bar(EvaluationResult.from_score(Score(None, 10, {}, -0.5, (-1.2, 0.1)), None))
    assert "left: 0.00%; width: 10.00%" in bar and "-120" in bar
