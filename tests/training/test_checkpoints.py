import json

import pytest
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from nnit_diffusers import GraphHyperNetwork, MLPArchitecture
from nnit_diffusers.training.checkpoints import (
    TrainingRecord,
    averaged_weights,
    checkpoint_step,
    find_checkpoints,
    list_checkpoints,
    register_model_hooks,
    save_checkpoint,
)
from nnit_diffusers.training.randomness import step_generator


# `EMAModel.from_pretrained` of diffusers makes a call that diffusers deprecates
pytestmark = pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")


def tiny_ghn():
    return GraphHyperNetwork(
        in_features=3, out_features=2, max_width=8, latent_dim=2, node_dim=8, map_channels=4, num_templates=2
    )


class Training:
    """State of a training run, as the trainer has it."""

    def __init__(self, output_dir):
        self.output_dir = output_dir
        self.accelerator = Accelerator(cpu=True)
        self.ghn = tiny_ghn()
        self.ema = EMAModel(
            self.ghn.parameters(), decay=0.5, model_cls=GraphHyperNetwork, model_config=self.ghn.config
        )
        register_model_hooks(self.accelerator, {"ghn": self.ghn}, {"ghn": self.ema})
        optimizer = torch.optim.AdamW(self.ghn.parameters(), lr=1e-2)
        self.model, self.optimizer = self.accelerator.prepare(self.ghn, optimizer)

    def step(self, step):
        latents = torch.randn(1, 2, generator=step_generator(0, step))
        (state_dict,) = self.model([MLPArchitecture(3, (5,), 2)], latents)
        loss = state_dict["0.bias"].square().sum()
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.ghn.parameters())
        return loss.item()

    def save(self, step, total_limit=None):
        return save_checkpoint(self.accelerator, self.output_dir, step, total_limit)

    def load(self, folder):
        self.accelerator.load_state(str(folder))


# EMA


def test_own_weights_are_restored_after_the_averaged_ones(tmp_path):
    training = Training(tmp_path)
    for step in range(3):
        training.step(step)
    own = [parameter.detach().clone() for parameter in training.ghn.parameters()]
    with pytest.raises(KeyboardInterrupt), averaged_weights(training.ghn, training.ema):
        for parameter, average in zip(training.ghn.parameters(), training.ema.shadow_params):
            assert torch.equal(parameter, average)
        raise KeyboardInterrupt
    assert all(torch.equal(parameter, before) for parameter, before in zip(training.ghn.parameters(), own))


def test_a_model_without_an_ema_keeps_its_weights(tmp_path):
    ghn = tiny_ghn()
    own = [parameter.detach().clone() for parameter in ghn.parameters()]
    with averaged_weights(ghn, None):
        assert all(torch.equal(parameter, before) for parameter, before in zip(ghn.parameters(), own))


# Checkpoints


def test_only_checkpoints_are_listed_oldest_first(tmp_path):
    for name in ("checkpoint-1000", "checkpoint-200", "checkpoint-best", "partial-3000", "logs"):
        (tmp_path / name).mkdir()
    assert [checkpoint_step(folder) for folder in list_checkpoints(tmp_path)] == [200, 1000]
    newest_first = [tmp_path / "checkpoint-1000", tmp_path / "checkpoint-200"]
    assert find_checkpoints(tmp_path, "latest") == newest_first
    assert find_checkpoints(tmp_path, "checkpoint-200") == newest_first[1:]
    assert find_checkpoints("elsewhere", str(tmp_path / "checkpoint-200")) == newest_first[1:]


def test_there_is_no_checkpoint_if_none_is_requested(tmp_path):
    (tmp_path / "checkpoint-200").mkdir()
    assert find_checkpoints(tmp_path, None) == []


def test_there_is_no_latest_checkpoint_before_the_first(tmp_path):
    assert find_checkpoints(tmp_path / "not_yet", "latest") == []


def test_a_missing_checkpoint_is_refused(tmp_path):
    (tmp_path / "checkpoint-200").mkdir()
    with pytest.raises(ValueError, match=r"one of \['checkpoint-200'\].*but received 'checkpoint-300'"):
        find_checkpoints(tmp_path, "checkpoint-300")


def test_models_of_a_checkpoint_load_with_from_pretrained(tmp_path):
    training = Training(tmp_path)
    training.step(0)
    folder = training.save(1)
    assert folder == tmp_path / "checkpoint-1"
    ghn = GraphHyperNetwork.from_pretrained(folder / "ghn")
    averaged = GraphHyperNetwork.from_pretrained(folder / "ghn_ema")
    for name, parameter in training.ghn.named_parameters():
        assert torch.equal(ghn.get_parameter(name), parameter)
    for saved, shadow in zip(averaged.parameters(), training.ema.shadow_params):
        assert torch.equal(saved, shadow)
    assert not (folder / "model.safetensors").exists()


def test_a_resumed_training_run_equals_an_uninterrupted_one(tmp_path):
    training = Training(tmp_path)
    for step in range(3):
        training.step(step)
    folder = training.save(3)
    uninterrupted = [training.step(step) for step in range(3, 6)]

    resumed = Training(tmp_path)
    resumed.load(folder)
    assert [resumed.step(step) for step in range(3, 6)] == uninterrupted
    assert resumed.ema.optimization_step == training.ema.optimization_step
    for ours, theirs in zip(resumed.ema.shadow_params, training.ema.shadow_params):
        assert torch.equal(ours, theirs)


def test_the_oldest_checkpoints_beyond_the_limit_are_removed(tmp_path):
    training = Training(tmp_path)
    for step in (9, 10, 11):
        training.save(step, total_limit=2)
    assert [checkpoint_step(folder) for folder in list_checkpoints(tmp_path)] == [10, 11]


def test_a_training_run_killed_while_saving_keeps_its_last_complete_checkpoint(tmp_path):
    training = Training(tmp_path)
    training.save(1, total_limit=1)

    def killed(state_dict, *args):
        raise KeyboardInterrupt

    training.accelerator.register_save_state_pre_hook(killed)
    with pytest.raises(KeyboardInterrupt):
        training.save(2, total_limit=1)
    assert find_checkpoints(tmp_path, "latest") == [tmp_path / "checkpoint-1"]

    resumed = Training(tmp_path)
    resumed.load(tmp_path / "checkpoint-1")
    assert [resumed.save(2, total_limit=1)] == find_checkpoints(tmp_path, "latest")
    assert [folder.name for folder in tmp_path.iterdir()] == ["checkpoint-2"]


# Records


def test_a_resumed_training_run_keeps_its_record_up_to_the_checkpoint(tmp_path):
    record = TrainingRecord(tmp_path, {"max_train_steps": 20})
    for step in (10, 20):
        record.add_validation(step, {"validation/train": step / 100})
    first = json.loads((tmp_path / "training.json").read_text())

    TrainingRecord(tmp_path, {"max_train_steps": 30}, step=10).add_validation(30, {"validation/train": 0.3})
    resumed = json.loads((tmp_path / "training.json").read_text())
    assert [(metrics["step"], metrics["validation/train"]) for metrics in resumed["validation"]] == [
        (10, 0.1),
        (30, 0.3),
    ]
    assert resumed["arguments"] == {"max_train_steps": 30}
    assert {name: resumed[name] for name in ("command", "date")} == {name: first[name] for name in ("command", "date")}
    assert [run["step"] for run in resumed["resumed"]] == [10]


def test_a_new_training_run_replaces_an_earlier_record(tmp_path):
    TrainingRecord(tmp_path, {}).add_validation(10, {"validation/train": 0.5})
    TrainingRecord(tmp_path, {})
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["validation"] == []
    assert "resumed" not in record
