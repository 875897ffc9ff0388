"""What the trainer checks of the networks that it is given."""

import logging

import pytest
import torch
from launching import TINY_NNIT, fresh_accelerate
from tiny import PATCH_SIZE, tiny_ghn
from tiny_tasks import TinyDataTask

from nnit_diffusers import MLP, WeightDatasetWriter
from nnit_diffusers.training import NNiTTrainingConfig
from nnit_diffusers.training.transformer import NNiTTrainer


@pytest.fixture(autouse=True)
def accelerate_of_this_test():
    with fresh_accelerate():
        yield


def dataset_of(folder, networks):
    with WeightDatasetWriter(folder) as writer:
        for network in networks:
            writer.add(network, task="tiny_data")
    return folder


def trainer_of(folder, source):
    config = NNiTTrainingConfig(**{**TINY_NNIT, "patch_size": PATCH_SIZE, "report_to": "none"})
    return NNiTTrainer(TinyDataTask(), source, config, folder / "run")


def ghn_networks(num_networks):
    generator = torch.Generator().manual_seed(0)
    architecture = TinyDataTask().regions.architecture([9, 7])
    return tiny_ghn().generate(
        [architecture] * num_networks, latents=torch.randn(num_networks, 4, generator=generator)
    )


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (MLP(4, [6], 3), r"= \(5, 3, 'relu'\), but received \(4, 3, 'relu'\)"),
        (MLP(5, [6], 3, "tanh"), r"= \(5, 3, 'relu'\), but received \(5, 3, 'tanh'\)"),
        (MLP(5, [6] * 65, 3), "1 to 64 hidden layers, but received 65"),
    ],
)
def test_a_dataset_with_a_network_of_another_task_is_refused_before_training(tmp_path, network, message):
    folder = dataset_of(tmp_path / "data", [MLP(5, [6], 3)] * 20 + [network])
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, folder)


def test_networks_trained_apart_cause_a_warning(tmp_path, caplog):
    torch.manual_seed(0)
    trainer_of(tmp_path, dataset_of(tmp_path / "data", [MLP(5, [9, 7], 3) for _ in range(4)]))
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "cosine similarity of 5-9-7-3 networks is " in record.message
    assert "--match_weights" in record.message


def test_networks_of_a_hypernetwork_and_of_different_architectures_cause_none(tmp_path, caplog):
    trainer_of(tmp_path / "aligned", dataset_of(tmp_path / "same", ghn_networks(4)))
    trainer_of(tmp_path / "unknown", dataset_of(tmp_path / "different", [MLP(5, [width], 3) for width in (4, 5, 6)]))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
