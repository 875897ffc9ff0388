"""One's own problem in one command: a table, and a simulator with a teacher or a recording."""

import json

import numpy as np
import pandas
import pytest
from launching import fresh_accelerate

from nnit_diffusers import NNiTPipeline


# diffusers' own `EMAModel.from_pretrained` triggers a deprecation warning of diffusers.
pytestmark = pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")

MODEL = "num_layers=1 num_attention_heads=1 attention_head_dim=8 train_batch_size=2 max_train_steps=2 patch_size=4"
CHANGED = [
    *("nested.max_train_steps=2", "nested.validation_architectures=1"),
    *("ghn.max_train_steps=2", "ghn.num_architectures=2", "ghn.upsampling=4", "ghn.validation_architectures=1"),
    *(f"nnit.{setting}" for setting in MODEL.split()),
    "nnit.validation_architectures=1",
    "tuning=none",
    *("evaluation.num_architectures=1", "evaluation.num_networks=2", "evaluation.num_selected=1"),
    *('evaluation.sections=["regions"]', "evaluation.num_inference_steps=1"),
]
EPISODES = [
    *("nested.validation_episodes=1", "ghn.validation_episodes=1", "nnit.validation_episodes=1"),
    *("evaluation.num_episodes=2", "evaluation.num_final_episodes=2"),
]
SETTINGS = [argument for setting in CHANGED for argument in ("--set", setting)]
SIMULATOR_SETTINGS = [*SETTINGS, *(argument for setting in EPISODES for argument in ("--set", setting))]
GRID = ("--widths", 4, 12, "--depths", 1, 2)
SEARCH = ("--num-bands", 1, "--networks-per-band", 1, "--screen-episodes", 2, "--num-inference-steps", 1)


@pytest.fixture(autouse=True)
def accelerate_of_this_test():
    with fresh_accelerate():
        yield


@pytest.fixture
def table(tmp_path):
    """120 flowers: two numbers, a colour, a kind to predict, and a weight to predict."""
    random = np.random.default_rng(0)
    length, width = random.normal(5, 1, 120), random.normal(3, 1, 120)
    frame = pandas.DataFrame({"length": length, "width": width, "colour": random.choice(["red", "blue"], 120)})
    frame["kind"] = np.where(length > 5, "long", "short")
    frame["weight"] = 100 * length * width
    frame.to_csv(tmp_path / "flowers.csv", index=False)
    return tmp_path / "flowers.csv"


def test_a_table_of_classes_from_training_to_predictions(nnit, table, tmp_path):
    trained = nnit("train", "flowers.csv", "--target", "kind", "--output", "my-table", *GRID, *SETTINGS)
    assert trained.code == 0, trained.err
    # types and classes are reported before training
    assert "colour" in trained.err and "short" in trained.err
    card = (tmp_path / "my-table" / "README.md").read_text()
    assert "### The table" in card and "nnit predict networks new.csv" in card
    spec = json.loads((tmp_path / "my-table" / "task.json").read_text())
    assert spec["source"] == "flowers.csv" and spec["target"] == "kind"

    # the folder is enough for every other command, wherever the table is now
    table.rename(tmp_path / "moved.csv")
    searched = nnit("search", "my-table", "--target", 0.1, "--output", "smallest", *SEARCH, "--json")
    assert searched.code == 0, searched.err
    generated = nnit("generate", "my-table", "--arch", 5, "--num-networks", 2, "--output", "networks")
    assert generated.code == 0, generated.err
    assert nnit("evaluate", "networks").code == 0
    assert nnit("evaluate", "smallest/winner", "--task", "moved.csv").code == 0

    # a network, or the mean of several, takes the same table without its target
    pandas.read_csv(tmp_path / "moved.csv").drop(columns="kind")[::-1].to_csv("new.csv", index=False)
    for source in ("networks/network-0", "networks", "smallest/winner"):
        predicted = nnit("predict", source, "new.csv", "--json")
        assert predicted.code == 0, predicted.err
        assert {row["kind"] for row in predicted.json["predictions"]} <= {"long", "short"}
    # a file has no columns of its own
    assert nnit("export", "networks/network-0", "--format", "onnx", "--output", "file.onnx").code == 0
    of_file, of_folder = (
        nnit("predict", *source, "new.csv", "--json").json["predictions"]
        for source in (("file.onnx", "--columns", "my-table"), ("networks/network-0",))
    )
    assert of_file == of_folder
    assert nnit("predict", "networks", "new.csv", "--output", "predictions.csv").code == 0
    assert list(pandas.read_csv("predictions.csv").columns) == ["kind", "kind_probability"]
    published = nnit("publish", "my-table", "--dry-run", "--json")
    assert published.code == 0, published.json


def test_a_table_of_numbers_is_scored_by_r2_in_raw_units(nnit, table, tmp_path):
    command = ("train", "flowers.csv", "--target", "weight", "--output", "numbers", *GRID, *SETTINGS)
    assert nnit(*command).code == 0
    report = json.loads((tmp_path / "numbers" / "evaluation.json").read_text())
    assert report["settings"]["metric"] == "R²" and not report["regions"]["seen"]["nnit"]["is_share"]
    card = (tmp_path / "numbers" / "README.md").read_text()
    assert "Scores are R²" in card and "Wilson" not in card
    evaluated = nnit("evaluate", "numbers", "--arch", 6, "--json").json["networks"][0]
    assert evaluated["num_successes"] is None and evaluated["confidence_interval"][1] <= 1
    # predictions are in the unit of the column, around 1,500
    nnit("generate", "numbers", "--arch", 6, "--num-networks", 5, "--output", "networks")
    predicted = nnit("predict", "networks", "flowers.csv", "--json").json["predictions"]
    assert 500 < np.mean([row["weight"] for row in predicted]) < 2500
    assert nnit("search", "numbers", "--target", 0.99, "--output", "none", *SEARCH).code == 1


def test_a_simulator_with_a_teacher_of_a_module(nnit, tmp_path):
    (tmp_path / "my_teachers.py").write_text(
        "def balance(observations):\n    return (observations[:, 2] + observations[:, 3] > 0).astype(int)\n"
    )
    command = ("train", "--env", "CartPole-v1", "--teacher", "my_teachers:balance", "--output", "pole", *GRID)
    rounds = ("--set", "demonstrations.num_episodes=2", "--set", "ghn.dagger_policies=1")
    rounds += ("--set", "nested.dagger_policies=1")
    trained = nnit(*command, *SIMULATOR_SETTINGS, *rounds)
    assert trained.code == 0, trained.err
    card = (tmp_path / "pole" / "README.md").read_text()
    assert "rounds of DAgger" in card and "Return, part of the teacher's" in card
    spec = json.loads((tmp_path / "pole" / "task.json").read_text())
    assert spec["env_id"] == "CartPole-v1" and spec["teacher_return"] > 100
    contract = json.loads((tmp_path / "pole" / "contract.json").read_text())
    assert contract["is_discrete"] and contract["task_spec"] == spec
    assert contract["environment"]["library"] == "gymnasium"
    # without the teacher
    (tmp_path / "my_teachers.py").unlink()
    nnit("generate", "pole", "--arch", 6, "--output", "networks")
    evaluated = nnit("evaluate", "networks", "--num-episodes", 2, "--num-workers", 0, "--json")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.json["networks"][0]["metrics"]["return_of_teacher"] > 0


def test_a_recording_without_a_teacher_has_no_rounds_of_dagger(nnit, tmp_path):
    random = np.random.default_rng(0)
    observations = random.normal(size=(200, 3)).astype(np.float32)
    np.savez(tmp_path / "swings.npz", observations=observations, actions=2 * np.tanh(observations[:, :1]))
    command = ("train", "--env", "Pendulum-v1", "--demonstrations", "swings.npz", "--output", "swing", *GRID)
    refused = nnit(*command, *SIMULATOR_SETTINGS)
    assert refused.code == 2 and "`teacher` or `teacher_return` must be given" in refused.err
    trained = nnit(*command, "--teacher-return", -150, *SIMULATOR_SETTINGS)
    assert trained.code == 0, trained.err
    recipe = json.loads((tmp_path / "swing" / "recipe.json").read_text())
    assert recipe["demonstrations"] is None and recipe["ghn"]["dagger_steps"] == []
    assert "no DAgger" in (tmp_path / "swing" / "README.md").read_text()
    # actions of -2 to 2 are standardised by the recording
    pipeline = NNiTPipeline.from_pretrained(tmp_path / "swing")
    assert pipeline.tokenizer.config.output_std[0] == pytest.approx(2 * np.tanh(observations[:, 0]).std(), rel=0.01)


WRONG = [
    (["train", "--output", "run"], "One of TASK and `--env` must be given, but received neither"),
    (["train", "digits", "--env", "CartPole-v1", "--output", "run"], "but received ['digits', 'CartPole-v1']"),
    (["train", "flowers.csv", "--output", "run"], "`--target` must name the column of 'flowers.csv' to predict"),
    (["train", "flowers.csv", "--target", "kin", "--output", "run"], "'kind'"),
    (["train", "absent.csv", "--target", "kind", "--output", "run"], "absent.csv"),
    (["train", "flowers.csv", "--target", "kind", "--teacher", "a:b", "--output", "run"], "`--teacher` must not be"),
    (["train", "--env", "HalfCheeta-v5", "--teacher-return", "1", "--output", "run"], "nearest: 'HalfCheetah-v5'"),
    (["train", "--env", "CartPole-v1", "--env-kwargs", "[1]", "--output", "run"], "must be a JSON object"),
    (["train", "--env", "CartPole-v1", "--env-kwargs", '{"mass": 2}', "--output", "run"], "mass"),
    (["train", "--env", "CartPole-v1", "--target", "kind", "--output", "run"], "`--target` must not be given with"),
    (["train", "--env", "CartPole-v1", "--output", "run"], "`teacher` or `teacher_return` must be given"),
    (["train", "--env", "CartPole-v1", "--teacher-return", "500", "--output", "run"], "but has neither"),
    (["train", "--env", "CartPole-v1", "--teacher", "absent.onnx", "--output", "run"], "absent.onnx"),
    (["train", "--env", "CartPole-v1", "--teacher", "no_module:x", "--output", "run"], "no_module"),
    (["train", "flowers.csv", "--target", "kind", "--widths", "9", "4", "--output", "run"], "width"),
    (["predict", "flowers.csv", "flowers.csv"], "flowers.csv"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_use_is_one_line_and_exit_code_2(nnit, table, arguments, message, tmp_path):
    result = nnit(*arguments)
    lines = result.err.strip().splitlines()
    assert result.code == 2 and message in lines[-1], result.err
    assert len(lines) == 1 and not (tmp_path / "run").exists()
