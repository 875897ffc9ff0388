"""What can go wrong with a training run: refused at once, or recovered from."""

import json
import logging
import resource
import signal

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers.optimization import SchedulerType
from launching import TINY_GHN, TINY_NNIT, fresh_accelerate, logged
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import PATCH_SIZE, tiny_ghn, tiny_transformer
from tiny_tasks import TinyDataTask

from nnit_diffusers import MLP
from nnit_diffusers.data import WeightDatasetWriter, shard_path
from nnit_diffusers.models.patches import WeightPatchBatch
from nnit_diffusers.training import GHNTrainingConfig, NNiTTrainingConfig, train_ghn, train_nnit
from nnit_diffusers.training.checkpoints import checkpoint_step, list_checkpoints
from nnit_diffusers.training.hypernetwork import GHNTrainer
from nnit_diffusers.training.transformer import NNiTBatch, NNiTTrainer
from nnit_diffusers.training.transformer_losses import NoisedBatch


# diffusers' own `EMAModel.from_pretrained` triggers a deprecation warning of diffusers.
pytestmark = pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")

NNIT = {**TINY_NNIT, "patch_size": PATCH_SIZE, "report_to": "none", "validation_steps": 10**6}
GHN = {**TINY_GHN, "upsampling": 4, "report_to": "none", "validation_steps": 10**6, "max_train_steps": 6}


@pytest.fixture(autouse=True)
def accelerate_of_this_test():
    with fresh_accelerate():
        yield


def ghn_config(**settings):
    return GHNTrainingConfig(**{**GHN, **settings})


def ghn_trainer(output_dir, **settings):
    return GHNTrainer(TinyDataTask(), ghn_config(**settings), output_dir)


def nnit_trainer(output_dir, task=None, pretrained=None, **settings):
    task = task or TinyDataTask()
    return NNiTTrainer(task, tiny_ghn(), NNiTTrainingConfig(**{**NNIT, **settings}), output_dir, pretrained)


def steps_of(output_dir):
    return [checkpoint_step(folder) for folder in list_checkpoints(output_dir)]


# Schedules and losses


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("schedule", [schedule.value for schedule in SchedulerType])
def test_every_schedule_of_diffusers_runs_with_both_optimizers(tmp_path, optimizer, schedule):
    trainer = nnit_trainer(
        tmp_path, optimizer=optimizer, lr_scheduler=schedule, lr_step_rules="1:4,0.1", max_train_steps=5
    )
    groups = trainer.optimizer.param_groups
    peaks = [group["initial_lr"] for group in groups]
    scales = []
    for _ in range(5):
        scales.append([group["lr"] / peak for group, peak in zip(groups, peaks)])
        trainer.train_step([trainer.prepare_batch(torch.Generator().manual_seed(trainer.step))])
    # the same for all groups, and as each schedule has it
    assert all(scale == pytest.approx([scale[0]] * len(scale), abs=1e-3) for scale in scales)
    first, last = scales[0][0], groups[0]["lr"] / peaks[0]
    constant, warm = schedule in ("constant", "piecewise_constant"), schedule == "constant_with_warmup"
    assert first == (1 if constant else 0)
    ends = {"constant": 1.0, "constant_with_warmup": 1.0, "piecewise_constant": 0.1}
    assert last == pytest.approx(ends.get(schedule, 0.0), abs=1e-3)
    assert warm or constant or max(scale[0] for scale in scales) == pytest.approx(1)


def test_a_schedule_that_does_not_exist_or_lacks_its_rules_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`lr_scheduler` must be one of \['linear', .*but received 'cosinus'"):
        ghn_trainer(tmp_path, lr_scheduler="cosinus")
    with pytest.raises(ValueError, match="`lr_step_rules` must be rules such as .*but received None"):
        ghn_trainer(tmp_path, lr_scheduler="piecewise_constant")


def part_of(batch, rows):
    """Some of the networks of a micro-batch, and as many of its architecture-only samples."""
    noised = batch.noised
    networks = {
        name: [value[row] for row in rows] if isinstance(value, list) else value[rows]
        for name, value in vars(noised.clean).items()
        if value is not None
    }
    parts = {name: value[rows] for name, value in vars(noised).items() if name != "clean" and value is not None}
    return NNiTBatch(NoisedBatch(WeightPatchBatch(**networks), **parts), batch.samples, batch.noise[rows])


def test_the_same_networks_in_more_micro_steps_give_the_same_losses_and_weights(tmp_path):
    """As one batch of 16, as 4 of 4 and as 16 of 1."""
    results = []
    for num_micro_steps in (1, 4, 16):
        torch.manual_seed(0)
        trainer = nnit_trainer(
            tmp_path / str(num_micro_steps),
            gradient_accumulation_steps=num_micro_steps,
            train_batch_size=16,
            architecture_batch_size=16,
            masked_architecture_fraction=0.4,
            function_loss_weight=1.0,
            pretrained=tiny_transformer(),
            one_step_loss_weight=1.0,
            # so that equal gradients are equal updates
            optimizer="adamw",
            adam_epsilon=1.0,
            lr_scheduler="constant",
        )
        batch = trainer.prepare_batch(torch.Generator().manual_seed(0))
        rows = torch.arange(16).chunk(num_micro_steps)
        metrics = trainer.train_step([part_of(batch, part.tolist()) for part in rows])
        weights = torch.cat([parameter.detach().flatten() for parameter in trainer.trained.parameters()])
        results.append((metrics, weights))
    (metrics, weights), *others = results
    assert set(metrics) == {"patches", "architecture", "function", "one_step"} and min(metrics.values()) > 0
    for other_metrics, other_weights in others:
        assert other_metrics == pytest.approx(metrics, rel=1e-4)
        torch.testing.assert_close(other_weights, weights, rtol=1e-4, atol=1e-6)


# Folders and checkpoints


def test_a_folder_with_checkpoints_of_a_longer_run_is_refused_unless_overwritten(tmp_path):
    train_ghn(TinyDataTask(), ghn_config(checkpointing_steps=2), tmp_path)
    assert steps_of(tmp_path) == [4, 6]
    new = {"max_train_steps": 3, "checkpointing_steps": 1, "checkpoints_total_limit": 2}
    with pytest.raises(ValueError, match=r"another run, but .*\['checkpoint-4', 'checkpoint-6'\].*overwrite=True"):
        ghn_trainer(tmp_path, **new)
    assert steps_of(tmp_path) == [4, 6]
    train_ghn(TinyDataTask(), ghn_config(overwrite=True, **new), tmp_path)
    assert steps_of(tmp_path) == [2, 3]


def test_a_resumed_run_with_other_settings_is_refused_and_the_record_is_what_ran(tmp_path):
    train_ghn(TinyDataTask(), ghn_config(max_train_steps=2), tmp_path)
    record = json.loads((tmp_path / "training.json").read_text())["arguments"]
    assert (record["mixed_precision"], record["gradient_accumulation_steps"]) == ("no", 1)
    changed = {"max_train_steps": 2, "learning_rate": 0.5, "mixed_precision": "bf16"}
    with pytest.raises(
        ValueError, match=r"`mixed_precision` is 'no' there and 'bf16'.*`learning_rate` is 0\.002 .* 0\.5"
    ):
        ghn_trainer(tmp_path, resume_from_checkpoint="latest", **changed)
    # what has no part in the weights may change, and what is left to accelerate is the same as said
    trainer = ghn_trainer(tmp_path, max_train_steps=2, resume_from_checkpoint="latest", checkpointing_steps=7)
    assert trainer.step == 2
    assert json.loads((tmp_path / "training.json").read_text())["arguments"] == record


@pytest.mark.parametrize(
    "damaged", ["ghn/diffusion_pytorch_model.safetensors", "optimizer.bin", "custom_checkpoint_0.pkl"]
)
def test_an_older_checkpoint_is_resumed_if_the_newest_is_cut_short(tmp_path, caplog, damaged):
    settings = {"max_train_steps": 4, "checkpointing_steps": 2}
    complete = train_ghn(TinyDataTask(), ghn_config(**settings), tmp_path)
    path = tmp_path / "checkpoint-4" / damaged
    path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        trainer = ghn_trainer(tmp_path, resume_from_checkpoint="latest", checkpoints_total_limit=1, **settings)
    assert trainer.step == 2
    (warning,) = (line for line in caplog.messages if "damaged" in line)
    assert "checkpoint-4' is damaged" in warning
    trainer.run()
    for name, parameter in trainer.trained.named_parameters():
        torch.testing.assert_close(parameter, complete.get_parameter(name), rtol=1e-3, atol=1e-5)
    assert steps_of(tmp_path) == [4]


def test_a_new_checkpoint_is_never_removed_for_a_damaged_newer_one(tmp_path):
    settings = {"max_train_steps": 4, "checkpointing_steps": 1, "checkpoints_total_limit": None}
    train_ghn(TinyDataTask(), ghn_config(**settings), tmp_path)
    (tmp_path / "checkpoint-4" / "optimizer.bin").write_bytes(b"")
    (tmp_path / "checkpoint-3" / "optimizer.bin").write_bytes(b"")
    stopped = ghn_trainer(tmp_path, resume_from_checkpoint="latest", **{**settings, "checkpoints_total_limit": 1})
    stopped.on_step = lambda step, metrics: (_ for _ in ()).throw(KeyboardInterrupt)
    (tmp_path / "checkpoint-2").rename(tmp_path / "elsewhere")
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert steps_of(tmp_path) == [3, 4]
    assert (tmp_path / "checkpoint-3" / "optimizer.bin").stat().st_size > 0


def test_no_intact_checkpoint_is_an_error_that_names_each(tmp_path):
    train_ghn(TinyDataTask(), ghn_config(checkpointing_steps=3), tmp_path)
    for step in (3, 6):
        (tmp_path / f"checkpoint-{step}" / "optimizer.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="No checkpoint could be resumed.*checkpoint-6' is damaged.*checkpoint-3'"):
        ghn_trainer(tmp_path, resume_from_checkpoint="latest", checkpointing_steps=3)


@pytest.mark.parametrize("num_bytes", [100, 40_000])
def test_a_full_disk_leaves_no_part_of_a_checkpoint_and_is_named(tmp_path, num_bytes):
    trainer = ghn_trainer(tmp_path, checkpointing_steps=1, node_dim=64, map_channels=16)
    # no file may be larger, as on a disk that is full
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(step, metrics):
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))

    trainer.on_step = fill
    try:
        with pytest.raises(OSError, match=r"checkpoint-2' could not be written; its disk has [\d,]+ MiB free"):
            trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "training.json"}


# Tasks and sources


class OneLayerTask(TinyDataTask):
    """A grid of one layer has no held-out combinations."""

    name = "one_layer"
    max_depth = 1


def test_a_task_of_one_layer_trains_through_its_validation(tmp_path):
    settings = {"max_train_steps": 2, "validation_steps": 1, "report_to": "tensorboard"}
    ghn = train_ghn(OneLayerTask(), ghn_config(**settings), tmp_path / "ghn")
    train_nnit(OneLayerTask(), ghn, NNiTTrainingConfig(**{**NNIT, **settings}), tmp_path / "nnit")
    for stage, more in (("ghn", "participation_ratio"), ("nnit", "unconditional")):
        metrics = json.loads((tmp_path / stage / "training.json").read_text())["validation"]
        assert [each["step"] for each in metrics] == [1, 2]
        assert {"validation/seen", f"validation/{more}"} <= metrics[0].keys()
        assert "validation/held_out_combinations" not in metrics[0]
        assert list(logged(tmp_path / stage, "validation/seen")) == [1, 2]


def test_a_ghn_of_other_observation_statistics_is_refused(tmp_path):
    class OtherData(TinyDataTask):
        def load(self, split):
            inputs, labels = super().load(split)
            return 3 * inputs + 5, labels

    config = NNiTTrainingConfig(**NNIT)
    ghn = GHNTrainer(OtherData(), ghn_config(), tmp_path / "ghn").trained
    with pytest.raises(ValueError, match="`ghn` must have the observation statistics of task 'tiny_data'"):
        train_nnit(TinyDataTask(), ghn, config, tmp_path / "nnit")
    assert not (tmp_path / "nnit").exists()


def test_the_ghn_of_the_caller_stays_as_it_is(tmp_path):
    ghn = tiny_ghn().train()
    pipeline = NNiTTrainer(TinyDataTask(), ghn, NNiTTrainingConfig(**NNIT), tmp_path).pipeline
    assert ghn.training and all(parameter.requires_grad for parameter in ghn.parameters())
    assert pipeline.ghn is not ghn


def test_a_dataset_with_a_nan_is_refused_before_the_first_step(tmp_path):
    with WeightDatasetWriter(tmp_path / "weights") as writer:
        for _ in range(3):
            writer.add(MLP(5, [6], 3), task="tiny_data")
    path = shard_path(tmp_path / "weights", 0)
    tensors = load_file(path)
    tensors["00001.0.weight"][0, 0] = torch.nan
    with safe_open(path, framework="pt") as shard:
        save_file(tensors, path, shard.metadata())
    with pytest.raises(ValueError, match=r"Network 1 of the dataset .*`00001\.0\.weight` of .*networks-00000"):
        NNiTTrainer(TinyDataTask(), tmp_path / "weights", NNiTTrainingConfig(**NNIT), tmp_path / "run")


# Settings


def test_an_unknown_tracker_is_refused_with_a_list(tmp_path):
    with pytest.raises(
        ValueError, match=r"`report_to` must be .*'wandb'.*but received 'paper'; installed are \['tensor"
    ):
        ghn_trainer(tmp_path / "run", report_to="paper")
    assert not (tmp_path / "run").exists()


def test_a_repository_name_that_the_hub_cannot_take_is_refused_before_the_first_step(tmp_path):
    steps = []
    with pytest.raises(ValueError, match="`hub_model_id` must be a repository .*but received 'a/b/c': "):
        train_ghn(
            TinyDataTask(),
            ghn_config(push_to_hub=True, hub_model_id="a/b/c"),
            tmp_path,
            on_step=lambda step, metrics: steps.append(step),
        )
    assert not steps and not list(tmp_path.iterdir())


def test_a_second_run_in_one_process_has_its_own_precision_and_accumulation(tmp_path):
    found = []
    for index, (precision, accumulation) in enumerate([("no", 2), ("bf16", 1), (None, None)]):
        trainer = ghn_trainer(
            tmp_path / str(index),
            max_train_steps=1,
            mixed_precision=precision,
            gradient_accumulation_steps=accumulation,
        )
        found.append((AcceleratorState().mixed_precision, trainer.num_micro_steps))
        trainer.run()
    assert found == [("no", 2), ("bf16", 1), ("no", 1)]


def test_what_accelerate_is_configured_with_holds_unless_the_run_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "3")
    left = ghn_trainer(tmp_path / "left")
    assert (left.accelerator.mixed_precision, left.num_micro_steps) == ("bf16", 3)
    told = ghn_trainer(tmp_path / "told", mixed_precision="no", gradient_accumulation_steps=2)
    assert (told.accelerator.mixed_precision, told.num_micro_steps) == ("no", 2)
