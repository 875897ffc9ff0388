"""One model learns several tasks: what it is told of the task decides what its networks do."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_choices import shifted_task

from nnit_diffusers import NetworkContract, evaluate
from nnit_diffusers.tasks.multi import MultiTask
from nnit_diffusers.training import (
    DemonstrationsConfig,
    GHNTrainingConfig,
    NNiTTrainingConfig,
    collect_demonstrations,
    train_ghn,
    train_nested,
    train_nnit,
)
from nnit_diffusers.training.dagger import share_policies
from nnit_diffusers.training.samples import draw_labels, drop_labels


pytestmark = pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")

SHIFTS = (0, 1, 2)
GHN = {
    "train_batch_size": 32,
    "num_architectures": 6,
    "latents_per_architecture": 2,
    "max_train_steps": 300,
    "learning_rate": 0.01,
    "lr_warmup_steps": 10,
    "latent_dim": 4,
    "node_dim": 16,
    "map_channels": 8,
    "num_templates": 6,
    "diversity_weight": 0.05,
    "validation_steps": 1000,
    "report_to": "none",
}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demonstrations")
    tasks = [shifted_task(shift) for shift in SHIFTS]
    for each in tasks:
        collect_demonstrations(each, folder / each.name, DemonstrationsConfig(num_episodes=20), num_workers=0)
    task = MultiTask("shifts", tasks, data_dir=folder)
    task.num_workers = 0
    return task


@pytest.fixture(scope="module")
def ghn(task, tmp_path_factory):
    return train_ghn(task.separate(), GHNTrainingConfig(**GHN), tmp_path_factory.mktemp("ghn"))


def rate(networks, task, names):
    """Success rate of networks in the tasks of these names."""
    for network, name in zip(networks, names, strict=True):
        network.contract = NetworkContract(task=name)
    results = evaluate(networks, task, num_episodes=10, progress_bar=False)
    return sum(result.score for result in results) / len(results)


def test_a_hypernetwork_learns_every_task_and_mixes_up_none(task, ghn):
    assert ghn.config.task_names == list(task.task_names)
    architectures = task.regions.sample("held_out_combinations", 4, torch.Generator().manual_seed(0))
    for label, name in enumerate(task.task_names):
        labels = torch.full((4,), label)
        networks = ghn.generate(architectures, torch.Generator().manual_seed(1), task_labels=labels)
        assert rate(networks, task, [name] * 4) > 0.9
        other = task.task_names[(label + 1) % len(SHIFTS)]
        assert rate(networks, task, [other] * 4) < 0.1


def test_the_transformer_generates_networks_for_the_task_that_is_requested(task, ghn, tmp_path):
    config = {
        "train_batch_size": 12,
        "latents_per_architecture": 2,
        "architecture_batch_size": 8,
        "learning_rate": 0.01,
        "muon_learning_rate": 0.04,
        "lr_warmup_steps": 10,
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "validation_steps": 1000,
        "checkpointing_steps": 1000,
        "report_to": "none",
    }
    first = NNiTTrainingConfig(**config, max_train_steps=250)
    pipeline = train_nnit(task, ghn, first, tmp_path / "first")
    tuning = NNiTTrainingConfig(
        **{**config, "learning_rate": 3e-3, "muon_learning_rate": 0.01},
        max_train_steps=100,
        logit_mean=0.0,
        function_loss_weight=1.0,
        task_loss_weight=1.0,
        function_batch_size=32,
    )
    pipeline = train_nnit(task, ghn, tuning, tmp_path / "second", pretrained=pipeline.transformer)
    assert pipeline.task_names == list(task.task_names)
    # what inputs and outputs mean, from the environment of each task
    assert pipeline.contracts["shift-1"].environment.env_kwargs == {"shift": 1}
    assert pipeline.contracts["shift-1"].is_discrete and pipeline.contracts["shift-1"].observations
    generator = torch.Generator().manual_seed(0)
    for name in task.task_names:
        networks = pipeline(arch=[[20], [16, 21]], num_networks=4, task=name, generator=generator).networks
        assert [network.contract.task for network in networks] == [name] * 8
        assert rate(networks, task, [name] * 8) > 0.7
        others = [other for other in task.task_names if other != name]
        assert max(rate(networks, task, [other] * 8) for other in others) < 0.2


def test_a_resumed_run_of_several_tasks_with_dagger_is_the_run(task, tmp_path):
    settings = {**GHN, "max_train_steps": 6, "dagger_steps": (2, 4), "dagger_policies": 3, "checkpointing_steps": 3}
    whole = train_ghn(task.separate(), GHNTrainingConfig(**settings), tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(step, losses):
        if step == 3:
            raise Stop

    with pytest.raises(Stop):
        train_ghn(task.separate(), GHNTrainingConfig(**settings), tmp_path / "parts", on_step=stop)
    resumed = GHNTrainingConfig(**settings, resume_from_checkpoint="latest")
    parts = train_ghn(task.separate(), resumed, tmp_path / "parts")
    for one, other in zip(whole.parameters(), parts.parameters()):
        assert torch.equal(one, other)
    # the rounds hold states of several tasks, with what became of the episodes
    tensors = load_file(tmp_path / "whole" / "dagger-2.safetensors")
    assert len(tensors["task_labels"]) == len(tensors["observations"]) == len(tensors["actions"])
    assert tensors["episode_labels"].tolist() == [0, 1, 2] * 2 and len(tensors["succeeded"]) == 6


def test_tasks_that_failed_get_more_policies_and_none_is_forgotten(tmp_path):
    assert share_policies(None, 4, 8) == [0, 1, 2, 3, 0, 1, 2, 3]
    labels = torch.arange(4).repeat(20)
    path = tmp_path / "dagger-5.safetensors"
    save_file({"episode_labels": labels, "succeeded": labels != 2}, path)
    shares = torch.bincount(torch.tensor(share_policies(path, 4, 100)))
    assert shares.sum() == 100
    assert shares[2] > 50 and shares.min() >= 7


def test_labels_of_a_step_spread_over_all_tasks(task):
    generator = torch.Generator().manual_seed(0)
    labels = draw_labels(task, 7, generator)
    assert torch.bincount(labels, minlength=3).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])
    assert not torch.equal(labels, draw_labels(task, 7, generator))
    assert draw_labels(task.of("shift-0"), 7, generator) is None
    dropped = drop_labels(torch.zeros(4000, dtype=torch.long), 3, 0.1, generator)
    assert set(dropped.tolist()) == {0, 3} and 0.05 < (dropped == 3).float().mean() < 0.15
    assert drop_labels(None, 3, 0.1, generator) is None


def test_a_hypernetwork_of_other_tasks_and_nested_slices_are_refused(task, ghn, tmp_path):
    fewer = MultiTask("shifts", [task.of(name) for name in task.task_names[:2]])
    with pytest.raises(ValueError, match=r"`ghn` must have the tasks \['shift-0', 'shift-1'\]"):
        train_nnit(fewer, ghn, NNiTTrainingConfig(max_train_steps=1), tmp_path)
    with pytest.raises(ValueError, match="`ghn` must have the tasks \\[\\]"):
        train_nnit(task.of("shift-0"), ghn, NNiTTrainingConfig(max_train_steps=1), tmp_path)
    with pytest.raises(ValueError, match="`task` must be one task for nested slices"):
        train_nested(task, output_dir=tmp_path)
