"""A pipeline with a contract gives it to every network, and keeps it when saved and loaded."""

import json

import pytest
import torch
from tiny import tiny_components, tiny_pipeline, tiny_tokenizer

from nnit_diffusers import NetworkContract, NNiTPipeline
from nnit_diffusers.contract import CONTRACT_NAME, IOTerm
from nnit_diffusers.pipelines.contracts import public_name
from nnit_diffusers.pipelines.fingerprint import fingerprints


CONTRACT = NetworkContract(task="reach", observations=(IOTerm("state", (5,)),), actions=(IOTerm("joints", (3,)),))
STATISTICS = {
    "observation_mean": [0.5, -1.0, 2.0, 0.0, 3.0],
    "observation_std": [1.0, 2.0, 0.5, 1.0, 4.0],
    "output_mean": [1.0, 2.0, 3.0],
    "output_std": [2.0, 2.0, 2.0],
}


def generated(pipeline, **options):
    generator = torch.Generator().manual_seed(0)
    return pipeline([[6], [5, 4]], num_inference_steps=1, generator=generator, **options).networks


@pytest.fixture
def pipeline():
    pipeline = tiny_pipeline(ghn=True)
    pipeline.contract = CONTRACT
    return pipeline


def test_networks_get_the_contract_with_what_is_folded_in_and_who_made_them(tmp_path):
    pipeline = NNiTPipeline(**{**tiny_components(), "tokenizer": tiny_tokenizer(**STATISTICS)})
    pipeline.set_progress_bar_config(disable=True)
    pipeline.contract = CONTRACT
    pipeline.save_pretrained(tmp_path / "me" / "reach")
    loaded = NNiTPipeline.from_pretrained(tmp_path / "me" / "reach")
    loaded.set_progress_bar_config(disable=True)
    for network in generated(loaded):
        assert network.contract.task == "reach" and network.contract.actions == CONTRACT.actions
        assert network.contract.folded.to_dict() == STATISTICS
        # without the folders of the machine that it was made on
        assert network.contract.provenance.pipeline == "me/reach"
        assert network.contract.provenance.package_version is not None


def test_the_contract_changes_no_network_and_no_fingerprint(pipeline):
    plain = tiny_pipeline(ghn=True)
    assert fingerprints(pipeline) == fingerprints(plain)
    for network, other in zip(generated(pipeline), generated(plain)):
        torch.testing.assert_close(network.state_dict(), other.state_dict(), atol=0, rtol=0)
        assert network.contract is not None and other.contract is None


def test_a_pipeline_is_saved_with_its_contract_or_without_that_of_another(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    assert json.loads((tmp_path / CONTRACT_NAME).read_text()) == CONTRACT.to_dict()
    assert NNiTPipeline.from_pretrained(tmp_path).contract == CONTRACT
    tiny_pipeline(ghn=True).save_pretrained(tmp_path)
    assert not (tmp_path / CONTRACT_NAME).exists()
    assert NNiTPipeline.from_pretrained(tmp_path).contract is None


def test_a_contract_that_is_damaged_or_of_other_networks_is_refused(pipeline, tmp_path):
    with pytest.raises(ValueError, match=r"`contract.observations` must describe 5 numbers, but describes 2"):
        pipeline.contract = NetworkContract(observations=(IOTerm("state", (2,)),))
    pipeline.save_pretrained(tmp_path)
    for content in ("{", "[]", '{"actions": 3}', '{"actions": [{"name": "joints", "shape": [9]}]}'):
        (tmp_path / CONTRACT_NAME).write_text(content)
        with pytest.raises(ValueError, match=CONTRACT_NAME):
            NNiTPipeline.from_pretrained(tmp_path)


def test_only_the_last_parts_of_a_path_are_published(tmp_path):
    assert public_name("nnit/digits-of-the-hub") == "nnit/digits-of-the-hub"
    assert public_name(str(tmp_path)) == public_name(f"{tmp_path}/") == "/".join(tmp_path.parts[-2:])
    assert public_name("/home/someone/secret/me/gone") == "me/gone"
    assert public_name(None) is None
