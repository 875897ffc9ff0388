"""What is pushed to the Hub by the real client loads back from there, and says which library loads it."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from loopback_hub import TOKEN, LoopbackHub, check_card
from tiny import tiny_pipeline

from nnit_diffusers import MLP
from nnit_diffusers.data import WeightDatasetWriter


PUBLISHED = Path(__file__).parents[2] / "nnit"
PUSH = """
import json, os, torch
os.environ["HF_TOKEN"] = TOKEN
from nnit_diffusers import MLP, GraphHyperNetwork, NNiTArchitectureScheduler, NNiTPipeline, NNiTTransformer
from nnit_diffusers import WeightDataset, WeightPatchTokenizer
from nnit_diffusers.data import push_to_hub as push_dataset
from nnit_diffusers.training.publishing import upload

def networks(pipeline):
    generator = torch.Generator().manual_seed(0)
    return pipeline(arch=[9, 7], generator=generator, num_inference_steps=2, output_type="pt").networks[0].tolist()

local = NNiTPipeline.from_pretrained(f"{FOLDER}/pipeline")
local.push_to_hub("someone/pipeline")
local.save_pretrained(f"{FOLDER}/again", push_to_hub=True, repo_id="someone/saved", private=True)
upload(f"{FOLDER}/pipeline", "trained")
local.ghn.push_to_hub("someone/ghn")
local.transformer.push_to_hub("someone/transformer")
local.tokenizer.push_to_hub("someone/tokenizer")
local.architecture_scheduler.push_to_hub("someone/scheduler")
mlp = MLP.from_pretrained(f"{FOLDER}/mlp")
mlp.push_to_hub("someone/mlp")
push_dataset(f"{FOLDER}/dataset", "someone/networks")

found = {name: networks(NNiTPipeline.from_pretrained(f"someone/{name}")) for name in ("pipeline", "saved", "trained")}
assert found["pipeline"] == found["saved"] == found["trained"] == networks(local)
ghn = GraphHyperNetwork.from_pretrained("someone/ghn")
assert all(torch.equal(tensor, local.ghn.state_dict()[name]) for name, tensor in ghn.state_dict().items())
transformer = NNiTTransformer.from_pretrained("someone/transformer")
assert torch.equal(transformer.proj_out.weight, local.transformer.proj_out.weight)
tokenizer = WeightPatchTokenizer.from_pretrained("someone/tokenizer")
assert tokenizer.to_json_string() == local.tokenizer.to_json_string()
assert NNiTArchitectureScheduler.from_pretrained("someone/scheduler").config.num_train_timesteps == 1000
pushed = MLP.from_pretrained("someone/mlp")
assert torch.equal(pushed(torch.ones(2, 5)), mlp(torch.ones(2, 5)))
dataset = WeightDataset("someone/networks")
print(json.dumps({"pipeline": found["pipeline"], "networks": [network[0].weight.tolist() for network in dataset]}))
"""


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A Hub that a fresh process has pushed everything to, what was pushed, and what loaded back."""
    folder = tmp_path_factory.mktemp("local")
    pipeline = tiny_pipeline(ghn=True)
    pipeline.save_pretrained(folder / "pipeline")
    networks = [MLP(5, [4 + i], 3) for i in range(3)]
    networks[0].save_pretrained(folder / "mlp")
    with WeightDatasetWriter(folder / "dataset") as writer:
        for network in networks:
            writer.add(network, task="toy", score=0.5)
    with LoopbackHub() as hub:
        found = hub.run(f"TOKEN = {TOKEN!r}\nFOLDER = {str(folder)!r}{PUSH}", folder / "cache")
        yield hub, pipeline, networks, found


def test_what_was_pushed_loads_back_and_computes_the_same(pushed):
    _, pipeline, networks, found = pushed
    generator = torch.Generator().manual_seed(0)
    expected = pipeline(arch=[9, 7], generator=generator, num_inference_steps=2, output_type="pt").networks[0]
    torch.testing.assert_close(torch.tensor(found["pipeline"]), expected)
    assert found["networks"] == [network[0].weight.tolist() for network in networks]


def test_every_card_says_which_library_loads_what_was_pushed(pushed):
    hub, *_ = pushed
    classes = {
        "pipeline": "NNiTPipeline",
        "saved": "NNiTPipeline",
        "trained": "NNiTPipeline",
        "ghn": "GraphHyperNetwork",
        "transformer": "NNiTTransformer",
        "tokenizer": "WeightPatchTokenizer",
        "scheduler": "NNiTArchitectureScheduler",
    }
    for name, class_name in classes.items():
        content = hub.repositories["model", f"someone/{name}"].revisions["main"]["README.md"].decode()
        assert ModelCard(content).data.library_name == "nnit-diffusers"
        assert f'{class_name}.from_pretrained("someone/{name}")' in content
    mlp_card = hub.repositories["model", "someone/mlp"].revisions["main"]["README.md"].decode()
    assert ModelCard(mlp_card).data.library_name == "nnit-diffusers"
    dataset_card = hub.repositories["dataset", "someone/networks"].revisions["main"]["README.md"].decode()
    assert "nnit-diffusers" in ModelCard(dataset_card).data.tags


def test_a_pushed_pipeline_can_be_loaded_by_a_plain_diffusion_pipeline_too(pushed):
    hub, *_ = pushed
    for name in ("pipeline", "saved", "trained"):
        files = hub.repositories["model", f"someone/{name}"].revisions["main"]
        assert files["pipeline.py"].startswith(b"from nnit_diffusers import NNiTPipeline")
        assert not any(path.endswith((".bin", ".pt", ".ckpt")) for path in files)
    assert hub.repositories["model", "someone/saved"].is_private


def test_weights_go_by_lfs_and_configurations_by_the_commit(pushed):
    hub, *_ = pushed
    files = hub.repositories["model", "someone/ghn"].revisions["main"]
    assert files["diffusion_pytorch_model.safetensors"] in hub.objects.values()
    assert files["config.json"] not in hub.objects.values()


@pytest.mark.parametrize("name", sorted(path.parent.name for path in PUBLISHED.glob("*/README.md")))
def test_published_cards_have_metadata_that_the_hub_takes(name):
    content = (PUBLISHED / name / "README.md").read_text()
    check_card(content)
    card = ModelCard(content)
    assert card.data.library_name == "nnit-diffusers"
    assert card.data.eval_results
    assert str(ModelCard(str(card)).data) == str(card.data)
    with pytest.raises((KeyError, TypeError, ValueError)):
        check_card(content.replace("type: image-classification", "").replace("type: robotics", ""))
