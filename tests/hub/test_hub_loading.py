"""Published checkpoints load from the Hub by the real client, and then from its cache without a network.

A fresh process takes seconds to start, so each tries all that it can.
"""

import shutil

import pytest
import torch
from loopback_hub import TOKEN, LoopbackHub
from tiny import tiny_pipeline

from nnit_diffusers import MLP, NetworkContract


CALL = "arch=[9, 7], generator=torch.Generator().manual_seed(0), num_inference_steps=2, output_type='pt'"

LOAD_EVERYTHING = f"""
import json, torch
from nnit_diffusers import MLP, NNiTPipeline, NNiTTransformer, WeightPatchTokenizer

pipe = NNiTPipeline.from_pretrained("nnit/tiny")
transformer = NNiTTransformer.from_pretrained("nnit/tiny", subfolder="transformer")
tokenizer = WeightPatchTokenizer.from_pretrained("nnit/tiny", subfolder="tokenizer")
mlp = MLP.from_pretrained("nnit/mlp")
assert {{parameter.dtype for parameter in pipe.transformer.parameters()}} == {{torch.float32}}
assert all(torch.equal(t, transformer.state_dict()[key]) for key, t in pipe.transformer.state_dict().items())
assert tokenizer.config == pipe.tokenizer.config, (tokenizer.config, pipe.tokenizer.config)
assert pipe.ghn is not None and pipe.config.min_width == 4
assert pipe.contract.task == "tiny" and pipe({CALL.replace("pt", "mlp")}).networks[0].contract.task == "tiny"
assert mlp.contract.task == "tiny"
print(json.dumps({{"pipeline": pipe({CALL}).networks[0].tolist(), "mlp": mlp(torch.ones(2, 5)).tolist()}}))
"""

LOAD_WITH_OPTIONS = f"""
import json, torch
from nnit_diffusers import MLP, NNiTPipeline, NNiTTransformer

def networks(**options):
    return NNiTPipeline.from_pretrained("nnit/tiny", **options)({CALL}).networks[0].tolist()

dtypes = set()
for name in ("dtype", "torch_dtype"):
    loaded = NNiTPipeline.from_pretrained("nnit/tiny", **{{name: torch.bfloat16}})
    dtypes |= {{loaded.transformer.proj_out.weight.dtype, loaded.ghn.dtype}}
assert dtypes == {{torch.bfloat16}}
half = NNiTTransformer.from_pretrained("nnit/tiny", subfolder="transformer", variant="fp16")
assert half.config["_name_or_path"] == "nnit/tiny"
found = {{
    "wide": MLP.from_pretrained("nnit/wide_mlp")(torch.ones(2, 5)).tolist(),
    "other": networks(revision="other"),
    "commit": networks(revision=COMMIT),
    "variant": networks(variant="fp16", cache_dir=CACHE),
    "private": NNiTPipeline.from_pretrained("nnit/secret", token=TOKEN)({CALL}).networks[0].tolist(),
    "private_mlp": MLP.from_pretrained("nnit/secret_mlp", token=TOKEN)(torch.ones(2, 5)).tolist(),
}}
print(json.dumps(found))
"""

# diffusers' loading code is there before this package, which is the other order to register in.
LOAD_AS_DIFFUSION_PIPELINE = f"""
import json, torch
from diffusers import DiffusionPipeline
import nnit_diffusers

pipe = DiffusionPipeline.from_pretrained("nnit/tiny", custom_pipeline="nnit/tiny", trust_remote_code=True)
assert type(pipe) is nnit_diffusers.NNiTPipeline and pipe.ghn is not None
print(json.dumps({{"pipeline": pipe({CALL}).networks[0].tolist()}}))
"""


def networks_of(pipeline):
    generator = torch.Generator().manual_seed(0)
    return pipeline(arch=[9, 7], generator=generator, num_inference_steps=2, output_type="pt").networks[0].tolist()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A Hub with a pipeline and a network, and what they compute here."""
    folder = tmp_path_factory.mktemp("published")
    pipeline = tiny_pipeline(ghn=True).to(torch.float16)  # rounds the weights to what is on disk
    pipeline.contract = NetworkContract(task="tiny")
    pipeline.save_pretrained(folder / "tiny")
    pipeline.save_pretrained(folder / "tiny", variant="fp16")
    (folder / "tiny" / "pipeline.py").write_text("from nnit_diffusers import NNiTPipeline\n")
    (folder / "tiny" / "README.md").write_text("---\nlibrary_name: nnit-diffusers\n---\n")
    mlp = MLP(5, [4], 3)
    mlp.contract = pipeline.contract
    mlp.save_pretrained(folder / "mlp")
    wide_mlp = MLP(5, [1800, 1800], 3)
    wide_mlp.save_pretrained(folder / "wide_mlp")
    expected = {
        "pipeline": networks_of(pipeline.to(torch.float32)),
        "mlp": mlp(torch.ones(2, 5)).tolist(),
        "wide": wide_mlp(torch.ones(2, 5)).tolist(),
    }

    with torch.no_grad():
        pipeline.transformer.proj_out.weight.mul_(2)
    pipeline.save_pretrained(shutil.copytree(folder / "tiny", folder / "other"))
    with LoopbackHub() as hub:
        hub.publish("nnit/tiny", folder / "tiny")
        hub.publish("nnit/tiny", folder / "other", revision="other")
        hub.publish("nnit/mlp", folder / "mlp")
        hub.publish("nnit/wide_mlp", folder / "wide_mlp")
        hub.publish("nnit/secret", folder / "tiny", is_private=True)
        hub.publish("nnit/secret_mlp", folder / "mlp", is_private=True)
        yield hub, {**expected, "other": networks_of(pipeline)}


def assert_same(found, expected):
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), atol=1e-5, rtol=1e-4)


def test_everything_loads_from_the_hub_and_then_from_the_cache_alone(published, tmp_path):
    hub, expected = published
    found = hub.run(LOAD_EVERYTHING, tmp_path)
    for name in ("pipeline", "mlp"):
        assert_same(found[name], expected[name])
    assert any("GET /nnit/tiny/resolve" in request and "transformer/diff" in request for request in hub.requests)
    asked_before = len(hub.requests)
    assert hub.run(LOAD_EVERYTHING, tmp_path, is_offline=True) == found
    assert len(hub.requests) == asked_before


def test_options_of_diffusers_are_honoured_and_interrupted_downloads_end_whole(published, tmp_path):
    hub, expected = published
    asked_before = len(hub.requests)
    # The client writes pieces of 10 MiB: what was cut off behind one goes on there, anything else starts again.
    hub.cuts["nnit/wide_mlp/model.safetensors"] = [11 * 2**20]
    hub.cuts["nnit/tiny/transformer/diffusion_pytorch_model.safetensors"] = [5000]
    commit = hub.repositories["model", "nnit/tiny"].commit_of("main")
    constants = {"COMMIT": commit, "TOKEN": TOKEN, "CACHE": str(tmp_path / "elsewhere")}
    code = "\n".join(f"{name} = {value!r}" for name, value in constants.items()) + LOAD_WITH_OPTIONS
    found = hub.run(code, tmp_path / "home")
    assert_same(found["other"], expected["other"])
    for name in ("commit", "variant", "private"):
        assert_same(found[name], expected["pipeline"])
    assert_same(found["private_mlp"], expected["mlp"])
    assert_same(found["wide"], expected["wide"])
    asked = hub.requests[asked_before:]
    wide = [request for request in asked if "wide_mlp/resolve/" in request and "model.safetensors" in request]
    first, second = [request for request in wide if request.startswith("GET")]
    assert second == f"{first} bytes={10 * 2**20}-"
    assert not any(hub.cuts.values())
    (weights,) = (tmp_path / "elsewhere").rglob("transformer/*.safetensors")
    assert weights.name == "diffusion_pytorch_model.fp16.safetensors"
    assert any("diffusion_pytorch_model.fp16" in request for request in asked)


def test_a_plain_diffusion_pipeline_loads_from_the_hub(published, tmp_path):
    hub, expected = published
    assert_same(hub.run(LOAD_AS_DIFFUSION_PIPELINE, tmp_path)["pipeline"], expected["pipeline"])
