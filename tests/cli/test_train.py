"""`nnit train`: from a task of one's own to a folder that the other commands take."""

import json
from pathlib import Path

import pytest
from launching import fresh_accelerate


# diffusers' own `EMAModel.from_pretrained` triggers a deprecation warning of diffusers.
pytestmark = pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")

TASK = "tiny_tasks:tiny_data"
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
SETTINGS = [argument for setting in CHANGED for argument in ("--set", setting)]


@pytest.fixture(autouse=True)
def accelerate_of_this_test():
    with fresh_accelerate():
        yield


def test_the_output_is_what_every_other_command_takes(nnit):
    grid = ("--widths", 4, 9, "--depths", 1, 2)
    command = ("train", TASK, *grid, "--preset", "small", "--output", "runs/tiny", *SETTINGS)
    result = nnit(*command, "--json")
    assert result.code == 0, result.err
    assert set(result.json["measured"]) >= {"seen", "held_out_widths"} and result.json["task"] == "tiny_data"
    info = nnit("info", "runs/tiny", "--json").json
    assert info["measured"]["seen"]["num_networks"] == 2
    # the ranges that were asked for, and not those of the task
    assert [info[name] for name in ("min_width", "max_width", "min_depth", "max_depth")] == [4, 9, 1, 2]
    card = Path("runs/tiny/README.md").read_text()
    assert f"nnit train {TASK} --widths 4 9 --depths 1 2 --recipe recipe.json" in card
    generated = nnit("generate", "runs/tiny", "--arch", 5, "--output", "networks", "--json")
    assert generated.code == 0
    assert nnit("evaluate", "networks").code == 0
    # ready to be published, without the checkpoints
    published = nnit("publish", "runs/tiny", "--dry-run", "--json")
    assert published.code == 0, published.json
    # the same command trains nothing again, and another one is refused
    with fresh_accelerate():
        assert nnit(*command).code == 0
    refused = nnit(*command, "--set", "ghn.seed=3")
    assert refused.code == 2 and "`ghn.seed` is 0 there and 3 here" in refused.err and refused.err.count("\n") == 1


def test_a_dry_run_shows_all_settings_and_writes_nothing(nnit, tmp_path):
    result = nnit(
        "train", TASK, "--output", "run", "--dry-run", "--set", "ghn.seed=7", "--set", "nnit.optimizer=adamw"
    )
    recipe = json.loads(result.out)
    assert (recipe["ghn"]["seed"], recipe["nnit"]["optimizer"]) == (7, "adamw")
    assert not (tmp_path / "run").exists()
    # what it prints is a recipe
    (tmp_path / "mine.json").write_text(result.out)
    again = nnit("train", TASK, "--output", "run", "--dry-run", "--recipe", "mine.json")
    assert json.loads(again.out) == recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nothing", "--output", "run"], "`task` must be one of ["),
        (
            ["no_module:task", "--output", "run"],
            "`task` must name a module that can be imported, but received 'no_mod",
        ),
        (["tiny_tasks:nothing", "--output", "run"], "or `module:name`, but received 'tiny_tasks:nothing'"),
        ([TASK, "--output", "run", "--data-dir", "data"], "can't be made with {'data_dir': 'data'}"),
        ([TASK, "--output", "run", "--set", "ghn.steps=5"], "A setting of `ghn` must be one of"),
        ([TASK, "--output", "run", "--set", "ghn"], "`--set` must be STAGE.SETTING=VALUE or STAGE=none, but received"),
        ([TASK, "--output", "run", "--set", "ghn.seed=1", "--set", "ghn.seed=2"], "every setting once"),
        ([TASK, "--output", "run", "--set", "tuning=none", "--set", "tuning.seed=2"], "none beside `none`"),
        ([TASK, "--output", "run", "--set", "ghn.checkpointing_steps=0"], "`checkpointing_steps` must be 1 or more"),
        ([TASK, "--output", "run", "--set", "ghn.learning_rate=NaN"], "`learning_rate` must be a finite number"),
        ([TASK, "--output", "run", "--set", "nnit.lr_scheduler=slow"], "`lr_scheduler` must be one of"),
        ([TASK, "--output", "run", "--set", "evaluation.num_selected=0"], "`num_selected` must be 1 or more"),
        ([TASK, "--output", "run", "--set", "evaluation.num_episodes=999"], "at most 120, the samples of a split"),
        ([TASK, "--output", "run", "--set", "ghn.dagger_steps=[1]"], "`ghn.dagger_steps` must be () for task"),
        ([TASK, "--output", "run", "--set", "tuning.patch_size=16"], "`tuning.patch_size` must be as in `nnit`, 8"),
        (
            [TASK, "--output", "run", "--set", "ghn.overwrite=true"],
            "must leave ['resume_from_checkpoint', 'overwrite']",
        ),
        ([TASK, "--output", "run", "--set", "ghn.seed=one"], "`ghn.seed` must be of type int, but received 'one'"),
        ([TASK, "--output", "run", "--recipe", "missing.json"], "missing.json"),
        (["pickcube", "--output", "run", "--recipe", "digits.json"], "`recipe` must be of task 'pickcube'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(nnit, tmp_path, options, message):
    nnit("train", "digits", "--output", "x", "--dry-run")
    (tmp_path / "digits.json").write_text(nnit("train", "digits", "--output", "x", "--dry-run").out)
    result = nnit("train", *options)
    assert result.code == 2
    assert result.err.count("\n") == 1 and message in result.err
    assert not (tmp_path / "run").exists()
