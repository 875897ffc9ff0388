"""Published checkpoints load from the Hub by the real client, and then from its cache without a network."""

import json
import os
import subprocess
import sys

import pytest
import torch
from loopback_hub import LoopbackHub
from tiny import tiny_pipeline

from nnit_diffusers import MLP


CALL = "arch=[9, 7], generator=torch.Generator().manual_seed(0), num_inference_steps=2"

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
print(json.dumps({{
    "pipeline": pipe({CALL}, output_type="pt").networks[0].tolist(),
    "mlp": mlp(torch.ones(2, 5)).tolist(),
}}))
"""

# diffusers' loading code is there before this package, which is the other order to register in.
LOAD_AS_DIFFUSION_PIPELINE = f"""
import json, torch
from diffusers import DiffusionPipeline
import nnit_diffusers

pipe = DiffusionPipeline.from_pretrained("nnit/tiny", custom_pipeline="nnit/tiny", trust_remote_code=True)
assert type(pipe) is nnit_diffusers.NNiTPipeline and pipe.ghn is not None
print(json.dumps({{"pipeline": pipe({CALL}, output_type="pt").networks[0].tolist()}}))
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A Hub with a pipeline and a network, and what they compute here."""
    root = tmp_path_factory.mktemp("hub")
    pipeline = tiny_pipeline(ghn=True).to(torch.float16)  # rounds the weights to what is on disk
    pipeline.save_pretrained(root / "nnit" / "tiny")
    (root / "nnit" / "tiny" / "pipeline.py").write_text("from nnit_diffusers import NNiTPipeline\n")
    (root / "nnit" / "tiny" / "README.md").write_text("---\nlibrary_name: nnit-diffusers\n---\n")
    mlp = MLP(5, [4], 3)
    mlp.save_pretrained(root / "nnit" / "mlp")
    pipeline.to(torch.float32)
    networks = pipeline(
        arch=[9, 7], generator=torch.Generator().manual_seed(0), num_inference_steps=2, output_type="pt"
    ).networks
    with LoopbackHub(root) as hub:
        yield hub, {"pipeline": networks[0].tolist(), "mlp": mlp(torch.ones(2, 5)).tolist()}


def run_fresh(code, hub, cache, offline=False):
    """What `code` prints, as JSON, in a process of its own that knows no Hub but this one."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def assert_same(found, expected):
    assert set(found) <= set(expected)
    for name, values in found.items():
        torch.testing.assert_close(torch.tensor(values), torch.tensor(expected[name]), atol=1e-5, rtol=1e-4)


def test_everything_loads_from_the_hub_and_then_from_the_cache_alone(published, tmp_path):
    hub, expected = published
    assert_same(run_fresh(LOAD_EVERYTHING, hub, tmp_path), expected)
    downloaded = [request for request in hub.requests if request.startswith("GET") and "/resolve/" in request]
    assert any("transformer/diffusion_pytorch_model.safetensors" in request for request in downloaded)
    asked_before = len(hub.requests)
    assert_same(run_fresh(LOAD_EVERYTHING, hub, tmp_path, offline=True), expected)
    assert len(hub.requests) == asked_before


def test_a_plain_diffusion_pipeline_loads_from_the_hub(published, tmp_path):
    hub, expected = published
    assert_same(run_fresh(LOAD_AS_DIFFUSION_PIPELINE, hub, tmp_path), expected)
