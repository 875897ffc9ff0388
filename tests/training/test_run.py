"""All stages in one call: what the folder holds, how a run resumes, and what is refused before hours of training."""

import json
import shutil
from typing import ClassVar

import pytest
import torch
from launching import TINY_GHN, TINY_NNIT, fresh_accelerate
from test_dagger import FollowThePointTask
from tiny import PATCH_SIZE
from tiny_tasks import TinyDataTask

from nnit_diffusers import ClassificationTask, NNiTPipeline, evaluate, get_task
from nnit_diffusers.training import Recipe, checks, run, train
from nnit_diffusers.training.hypernetwork import GHNTrainer
from nnit_diffusers.training.transformer import NNiTTrainer


# diffusers' own `EMAModel.from_pretrained` triggers a deprecation warning of diffusers.
pytestmark = pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")

NNIT = {**TINY_NNIT, "patch_size": PATCH_SIZE, "max_train_steps": 4, "checkpointing_steps": 2, "validation_steps": 4}
TINY = {
    "nested": {"max_train_steps": 4, "checkpointing_steps": 2, "validation_steps": 4, "validation_architectures": 1},
    "ghn": {**TINY_GHN, "upsampling": 4, "max_train_steps": 4, "checkpointing_steps": 2, "validation_steps": 4},
    "nnit": NNIT,
    "tuning": {**NNIT, "max_train_steps": 2, "function_batch_size": 4},
    "evaluation": {
        "sections": ("regions", "direct"),
        "num_inference_steps": 1,
        "num_architectures": 2,
        "num_networks": 2,
        "num_selected": 1,
        "num_direct_architectures": 1,
        "num_direct_networks": 1,
        "direct_steps": 5,
    },
}


@pytest.fixture(autouse=True)
def accelerate_of_this_test():
    with fresh_accelerate():
        yield


def train_tiny(output_dir, **options):
    return train(TinyDataTask(), output_dir, preset="small", show_progress=False, **{**TINY, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with fresh_accelerate():
        train_tiny(folder)
    return folder


@pytest.fixture
def copy_of(folder, tmp_path):
    """A copy of the finished run, to be changed."""
    return shutil.copytree(folder, tmp_path / "tiny")


def weights(folder):
    pipeline = NNiTPipeline.from_pretrained(folder)
    return {**pipeline.transformer.state_dict(), **{f"ghn.{k}": v for k, v in pipeline.ghn.state_dict().items()}}


def assert_same_weights(one, other):
    ones, others = weights(one), weights(other)
    assert ones.keys() == others.keys()
    assert all(torch.equal(ones[name], others[name]) for name in ones)


def test_the_folder_is_a_pipeline_with_its_results_and_records(folder):
    networks = NNiTPipeline.from_pretrained(folder)([5, 7], num_networks=2, num_inference_steps=1).networks
    assert [network.architecture.hidden_sizes for network in networks] == [(5, 7)] * 2
    steps = json.loads((folder / "training_steps.json").read_text())
    assert NNiTPipeline.from_pretrained(folder).config.default_num_inference_steps == steps["chosen"] in (1, 2, 4, 20)
    report = json.loads((folder / "evaluation.json").read_text())
    assert set(report) >= {"settings", "runs", "regions", "direct"}
    assert report["settings"]["task"] == "tiny_data"
    names = {path.name for path in folder.iterdir()}
    assert {"README.md", "regions.png", "recipe.json", "training_ghn.json", "training_tuning.json"} <= names
    assert "nnit train tiny_tasks:tiny_data --recipe recipe.json" in (folder / "README.md").read_text()


def test_the_recipe_in_the_folder_repeats_the_run(folder, tmp_path):
    recipe = Recipe.from_pretrained(folder)
    assert recipe.ghn.max_train_steps == TINY["ghn"]["max_train_steps"]
    with fresh_accelerate():
        train(TinyDataTask(), tmp_path / "again", recipe=recipe, show_progress=False)
    assert_same_weights(tmp_path / "again", folder)


def test_tuning_begins_with_the_transformer_of_the_stage_before(folder):
    before = NNiTPipeline.from_pretrained(folder / "training" / "transformer" / "pipeline").transformer
    tuned = NNiTPipeline.from_pretrained(folder).transformer
    differences = [(a - b).abs().max() for a, b in zip(before.parameters(), tuned.parameters())]
    # as after two small steps, and not as of another initialisation
    assert 0 < max(differences) < 0.3


def test_the_evaluation_is_of_the_published_weights(folder):
    report = json.loads((folder / "evaluation.json").read_text())
    row = report["regions"]["held_out_widths"]["architectures"][0]
    assert 0 <= row["nnit"]["min"] <= row["nnit"]["mean"] <= row["nnit"]["max"] <= 1
    (result,) = evaluate(
        NNiTPipeline.from_pretrained(folder)([5], num_inference_steps=1).networks, TinyDataTask(), split="test"
    )
    assert result.num_episodes == report["settings"]["num_test_episodes"]


def interrupt_at(monkeypatch, kind, method, call):
    """Stops the run in this call of a method, once."""
    original, calls = getattr(kind, method), []

    def stopping(*args, **kwargs):
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(kind, method, stopping)


@pytest.mark.parametrize(
    ("kind", "method", "call"),
    [
        (GHNTrainer, "train_step", 4),
        (NNiTTrainer, "train_step", 6),
        (run._Run, "_publish", 1),
        (run, "write_card", 1),
    ],
    ids=["hypernetwork", "tuning", "publishing", "card"],
)
def test_a_run_that_was_stopped_anywhere_resumes_to_the_same_result(kind, method, call, folder, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, kind, method, call)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "run")
    with fresh_accelerate():
        train_tiny(tmp_path / "run")
    assert_same_weights(tmp_path / "run", folder)
    assert (tmp_path / "run" / "README.md").exists()


def test_a_finished_run_trains_nothing_again(copy_of, monkeypatch):
    for kind in (GHNTrainer, NNiTTrainer):
        interrupt_at(monkeypatch, kind, "train_step", 1)
    (copy_of / "README.md").unlink()
    train_tiny(copy_of)
    assert (copy_of / "README.md").exists()


def test_other_settings_than_those_of_the_run_are_refused_and_change_nothing(copy_of):
    before = (copy_of / "training" / "recipe.json").read_text()
    with pytest.raises(ValueError, match=r"`ghn.seed` is 0 there and 5 here.*another folder.*overwrite"):
        train_tiny(copy_of, ghn={**TINY["ghn"], "seed": 5})
    with pytest.raises(ValueError, match=r"`tuning` is .* there and None here"):
        train_tiny(copy_of, tuning=None)
    assert (copy_of / "training" / "recipe.json").read_text() == before


def test_settings_without_a_part_in_the_weights_may_change(copy_of):
    train_tiny(copy_of, ghn={**TINY["ghn"], "checkpointing_steps": 3})


def test_overwriting_begins_again(copy_of):
    (copy_of / "notes.txt").write_text("mine")
    train_tiny(copy_of, ghn={**TINY["ghn"], "seed": 5}, overwrite=True)
    assert Recipe.from_pretrained(copy_of).ghn.seed == 5
    assert (copy_of / "notes.txt").read_text() == "mine"


def test_settings_of_the_evaluation_may_change_until_it_begins(copy_of):
    (copy_of / "evaluation.json").unlink()
    train_tiny(copy_of, evaluation={**TINY["evaluation"], "num_networks": 3})
    assert Recipe.from_pretrained(copy_of).evaluation.num_networks == 3
    with pytest.raises(ValueError, match="`evaluation.num_networks` is 3 there and 2 here"):
        train_tiny(copy_of)


def test_a_finished_card_is_left_as_its_owner_edited_it(copy_of):
    (copy_of / "README.md").write_text("mine")
    (copy_of / "photo.png").write_bytes(b"mine")
    train_tiny(copy_of)
    assert (copy_of / "README.md").read_text() == "mine" and (copy_of / "photo.png").exists()


def test_other_data_than_those_of_the_run_are_refused(copy_of):
    class ShiftedTask(TinyDataTask):
        def load(self, split):
            inputs, labels = super().load(split)
            return inputs + 1, labels

    with pytest.raises(ValueError, match="the data that it began with, but .* by up to 1.08 standard"):
        train(ShiftedTask(), copy_of, preset="small", show_progress=False, **TINY)
    # another machine may round the statistics differently
    path = copy_of / "training" / "data.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"observation_mean": [mean + 1e-6 for mean in data["observation_mean"]]}))
    train_tiny(copy_of)
    path.write_text(json.dumps(data | {"grid": {**data["grid"], "max_width": 99}}))
    with pytest.raises(ValueError, match="must have the `grid` that it began with"):
        train_tiny(copy_of)


def test_a_task_without_a_name_is_refused(tmp_path):
    class NamelessTask(ClassificationTask):
        in_features, out_features = 3, 2

        def load(self, split):
            raise AssertionError("Nothing is read before the check.")

    with pytest.raises(ValueError, match="`task` must have a name, see `register_task`, but NamelessTask has none"):
        train(NamelessTask(), tmp_path / "run")


def test_a_folder_that_a_kill_left_before_the_first_stage_is_new(tmp_path):
    (tmp_path / "run" / "training" / ".recipe.json.abc.tmp").mkdir(parents=True)
    train_tiny(tmp_path / "run", tuning=None, evaluation={**TINY["evaluation"], "sections": ("regions",)})
    assert (tmp_path / "run" / "model_index.json").exists()


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"`output_dir` must be a new or empty folder.*which holds \['thesis.txt'\]"):
        train_tiny(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_recipe_of_another_task_is_refused(folder, tmp_path):
    class OtherTask(TinyDataTask):
        name = "other"

    with pytest.raises(ValueError, match="`recipe` must be of task 'other', but is of 'tiny_data'"):
        train(OtherTask(), tmp_path / "run", recipe=Recipe.from_pretrained(folder))
    assert not (tmp_path / "run").exists()


def test_demonstrations_of_a_task_without_an_expert_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`demonstrations` must be None for task 'tiny_data', which has no expert"):
        train_tiny(tmp_path / "run", demonstrations={"num_episodes": 3})
    assert not (tmp_path / "run").exists()


def test_missing_packages_are_missed_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "_NEEDED_PACKAGES", ("jinja2", "not_installed_here"))
    with pytest.raises(ImportError, match=r"Training needs \['not_installed_here'\]: `pip install nnit-diffusers"):
        train_tiny(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_tuning_the_transformer_is_published_as_trained(tmp_path):
    train_tiny(tmp_path / "run", tuning=None)
    assert not (tmp_path / "run" / "training_tuning.json").exists()
    trained = NNiTPipeline.from_pretrained(tmp_path / "run" / "training" / "transformer" / "pipeline").transformer
    published = NNiTPipeline.from_pretrained(tmp_path / "run").transformer
    for one, other in zip(trained.parameters(), published.parameters()):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)  # half precision


# A task with an expert


IMITATION = {
    "ghn": {**TINY["ghn"], "dagger_steps": [1, 3], "dagger_policies": 2, "dagger_episodes": 1},
    "evaluation": {**TINY["evaluation"], "num_episodes": None, "num_final_episodes": None},
}


def train_imitation(task, output_dir):
    with fresh_accelerate():
        return train(task, output_dir, preset="small", show_progress=False, **{**TINY, **IMITATION})


class PointTask(FollowThePointTask):
    name = "point"
    num_samples: ClassVar[list[int]] = []

    def score(self, networks, **kwargs):
        # what networks are trained on while they are scored
        self.num_samples.append(len(self.demonstrations[0]))
        return super().score(networks, **kwargs)


def test_rounds_of_dagger_reach_every_stage_and_not_the_callers_task(tmp_path, monkeypatch):
    task = PointTask()
    num_collected = len(task.demonstrations[0])
    train_imitation(task, tmp_path / "run")
    assert len(task.demonstrations[0]) == num_collected
    with_rounds = PointTask.num_samples[-1]
    assert with_rounds > num_collected
    # an evaluation in another process trains its direct networks on the same data
    (tmp_path / "run" / "evaluation.json").unlink()
    train_imitation(task, tmp_path / "run")
    assert PointTask.num_samples[-1] == with_rounds
    # and so does a run that was stopped and called again in this process
    interrupt_at(monkeypatch, NNiTTrainer, "train_step", 2)
    with pytest.raises(KeyboardInterrupt):
        train_imitation(task, tmp_path / "stopped")
    train_imitation(task, tmp_path / "stopped")
    assert PointTask.num_samples[-1] == with_rounds


def test_a_robot_is_demonstrated_trained_and_evaluated(simulator, tmp_path):
    few = {"num_episodes": 1, "num_final_episodes": 1, "num_architectures": 1, "num_networks": 1}
    options = {
        "demonstrations": {"num_episodes": 2, "episodes_per_shard": 1},
        # thousands of steps otherwise
        "nested": None,
        "ghn": {
            **TINY["ghn"],
            "dagger_steps": [2],
            "dagger_policies": 1,
            "dagger_episodes": 1,
            "validation_episodes": 1,
        },
        "nnit": {**NNIT, "patch_size": 16, "max_train_steps": 1, "train_batch_size": 2, "validation_episodes": 1},
        "tuning": None,
        "evaluation": {**few, "sections": ["regions"], "regions": ["held_out_widths"], "num_inference_steps": 1},
    }
    task = get_task("pushcube")
    train(task, tmp_path / "run", preset="small", show_progress=False, **options)
    assert len(list((tmp_path / "run" / "training" / "demonstrations").glob("*.safetensors"))) == 2
    assert (tmp_path / "run" / "training" / "ghn" / "dagger-2.safetensors").exists()
    assert task.data_dir is None
    card = (tmp_path / "run" / "README.md").read_text()
    assert "pipeline_tag: robotics" in card and "PushCube-v1" in card
