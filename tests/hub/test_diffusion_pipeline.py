"""A plain `DiffusionPipeline` loads our pipelines once `nnit_diffusers` is imported, and others as it always did.

What it does in a process of its own is what counts: which modules were imported when is half of it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from loopback_hub import LoopbackHub
from tiny import tiny_pipeline


ROOT = Path(__file__).parents[2]
IMPORTS = {
    "diffusers_first": "from diffusers import DiffusionPipeline\nimport nnit_diffusers\n",
    "nnit_diffusers_first": "import nnit_diffusers\nfrom diffusers import DiffusionPipeline\n",
}

COMPARE = """
import json, torch
from nnit_diffusers import NNiTPipeline

def networks(pipeline, arch):
    assert type(pipeline) is NNiTPipeline
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    return pipeline(arch=arch, generator=generator, num_inference_steps=2, output_type="pt").networks[0]

def compare(name, arch, **options):
    found = networks(DiffusionPipeline.from_pretrained(name, **options), arch)
    assert torch.equal(found, networks(NNiTPipeline.from_pretrained(name, **options), arch))
    return found.tolist()
"""

FROM_FOLDERS = """
import pathlib
compare("nnit/digits", [48, 40])
compare(pathlib.Path(COPY), [48, 40], dtype=torch.float32)
assert compare(COPY, None) != compare(COPY, [48, 40])
assert networks(DiffusionPipeline.from_pretrained(pretrained_model_name_or_path=COPY), [16]).isfinite().all()
tokenizer = NNiTPipeline.from_pretrained(COPY).tokenizer
assert DiffusionPipeline.from_pretrained(COPY, tokenizer=tokenizer).tokenizer is tokenizer

from diffusers import DDPMPipeline
try:
    DDPMPipeline.from_pretrained(COPY)
except ValueError as error:
    assert "DDPMPipeline" in str(error), error
else:
    raise AssertionError("a DDPMPipeline was made of our components")
print(json.dumps(DiffusionPipeline.from_pretrained("nnit/digits").name_or_path))
"""

FROM_HUB = """
found = {
    "main": compare("nnit/tiny", [9, 7]),
    "other": compare("nnit/tiny", [9, 7], revision="other"),
    "variant": compare("nnit/tiny", [9, 7], variant="fp16", cache_dir=CACHE),
}
folder = DiffusionPipeline.download("nnit/tiny")
assert folder == NNiTPipeline.download(pretrained_model_name="nnit/tiny")
assert DiffusionPipeline.from_pretrained("nnit/tiny").name_or_path == "nnit/tiny"
print(json.dumps(found))
"""

REFUSED = """
import traceback

def error_of(load, name, **options):
    try:
        load(name, **options)
    except Exception as error:
        assert "has no attribute" not in "".join(traceback.format_exception(error))
        return [type(error).__name__, str(error)]

errors = {}
for name in NAMES:
    errors[name] = error_of(DiffusionPipeline.from_pretrained, name)
    assert errors[name] == error_of(NNiTPipeline.from_pretrained, name), errors[name]
errors["use_safetensors"] = error_of(DiffusionPipeline.from_pretrained, NAMES[0], use_safetensors=False)
print(json.dumps(errors))
"""

OTHERS = """
import json, pathlib
errors = []
for load, name in (
    (DiffusionPipeline.from_pretrained, "nnit/unknown"),
    (DiffusionPipeline.from_pretrained, pathlib.Path("no/such/folder")),
    (DiffusionPipeline.from_pretrained, None),
    (DiffusionPipeline.download, "nnit/missing"),
):
    try:
        load(name)
    except Exception as error:
        errors.append([type(error).__name__, str(error)])
pipeline = DiffusionPipeline.from_pretrained("nnit/ddpm")
assert type(pipeline).__name__ == "DDPMPipeline"
state_dict = pipeline.unet.state_dict()
DiffusionPipeline.download("nnit/ddpm")
print(json.dumps({"sum": sum(tensor.double().sum().item() for tensor in state_dict.values()), "errors": errors}))
"""


def constants(**values):
    return "".join(f"{name} = {value!r}\n" for name, value in values.items())


def run(code):
    """What `code` prints last, as JSON, in a fresh process at the root of the checkout."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def edit_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def pickled(folder, canary):
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
        torch.save(Canary(canary), weights.with_suffix(".bin"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Folders by what is wrong with them, and the file that is there once a pickle was loaded."""
    root = tmp_path_factory.mktemp("hostile")
    whole, canary = tmp_path_factory.mktemp("whole"), root / "canary"
    tiny_pipeline(ghn=True).save_pretrained(whole)

    def copy(name):
        return shutil.copytree(whole, root / name)

    pickled(copy("pickles"), canary)
    folder = copy("pickled_unet")
    pickled(folder, canary)
    edit_json(folder / "model_index.json", transformer=["diffusers", "UNet2DModel"])
    edit_json(copy("timesteps") / "scheduler" / "scheduler_config.json", num_train_timesteps=10**12)
    edit_json(copy("width") / "transformer" / "config.json", attention_head_dim=2**14, num_layers=200)
    edit_json(copy("templates") / "ghn" / "config.json", num_templates=10**6)
    edit_json(copy("library") / "model_index.json", tokenizer=["subprocess", "Popen"])
    edit_json(copy("empty_entry") / "model_index.json", tokenizer=[])
    edit_json(copy("min_width") / "model_index.json", min_width=-1)
    shutil.rmtree(copy("no_tokenizer") / "tokenizer")
    weights = copy("truncated") / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return root, canary


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory):
    """A pipeline of diffusers, and the sum of its weights."""
    sizes = {"block_out_channels": (4, 4), "norm_num_groups": 2, "layers_per_block": 1, "sample_size": 8}
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "add_attention": False}
    unet = UNet2DModel(in_channels=1, out_channels=1, **sizes, **blocks)
    folder = tmp_path_factory.mktemp("ddpm")
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder, sum(tensor.double().sum().item() for tensor in unet.state_dict().values())


@pytest.mark.parametrize("order", IMPORTS)
def test_folders_load_as_they_do_through_our_pipeline(order, tmp_path):
    copy = shutil.copytree(ROOT / "nnit" / "digits", tmp_path / "copy")
    assert run(constants(COPY=str(copy)) + IMPORTS[order] + COMPARE + FROM_FOLDERS) == "nnit/digits"


def test_repositories_load_from_the_hub_and_then_from_the_cache_alone(tmp_path):
    pipeline = tiny_pipeline(ghn=True)
    pipeline.save_pretrained(tmp_path / "tiny")
    pipeline.save_pretrained(tmp_path / "tiny", variant="fp16")
    other = shutil.copytree(tmp_path / "tiny", tmp_path / "other")
    with torch.no_grad():
        pipeline.transformer.proj_out.weight.mul_(2)
    pipeline.save_pretrained(other)
    code = constants(CACHE=str(tmp_path / "elsewhere")) + COMPARE + FROM_HUB
    with LoopbackHub() as hub:
        hub.publish("nnit/tiny", tmp_path / "tiny")
        hub.publish("nnit/tiny", other, revision="other")
        found = hub.run(IMPORTS["diffusers_first"] + code, tmp_path / "cache")
        assert found["main"] == found["variant"] != found["other"]
        asked_before = len(hub.requests)
        assert hub.run(IMPORTS["nnit_diffusers_first"] + code, tmp_path / "cache", is_offline=True) == found
        assert len(hub.requests) == asked_before


def test_a_hostile_folder_is_refused_as_by_our_pipeline(hostile):
    root, canary = hostile
    folders = sorted(str(path) for path in root.iterdir() if path.is_dir())
    assert len(folders) == 10
    code = constants(NAMES=folders) + IMPORTS["nnit_diffusers_first"] + COMPARE + REFUSED
    for folder, error in run(code).items():
        assert error is not None, f"{folder} was loaded"
        assert error[0] in ("OSError", "FileNotFoundError", "ValueError"), error
    assert not canary.exists()


def test_a_hostile_repository_is_refused_as_by_our_pipeline_and_no_pickle_downloaded(hostile, tmp_path):
    root, canary = hostile
    with LoopbackHub() as hub:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
        for folder in folders:
            hub.publish(f"nnit/{folder.name}", folder)
        names = [f"nnit/{folder.name}" for folder in folders]
        code = constants(NAMES=names) + IMPORTS["diffusers_first"] + COMPARE + REFUSED
        for name, error in hub.run(code, tmp_path).items():
            assert error is not None, f"{name} was loaded"
            assert error[0] in ("OSError", "FileNotFoundError", "ValueError"), error
        assert not any(".bin" in request for request in hub.requests)
    assert not canary.exists()


def test_other_pipelines_load_and_fail_as_without_the_package_and_ask_the_hub_for_nothing_more(ddpm, tmp_path):
    folder, expected = ddpm
    edit_json(shutil.copytree(folder, tmp_path / "unknown") / "model_index.json", _class_name="NoSuchPipeline")
    asked, found = {}, {}
    with LoopbackHub() as hub:
        hub.publish("nnit/ddpm", folder)
        hub.publish("nnit/unknown", tmp_path / "unknown")
        for kind, imports in (("plain", ""), ("registered", "import nnit_diffusers\n")):
            hub.requests.clear()
            found[kind] = hub.run(f"{imports}from diffusers import DiffusionPipeline\n{OTHERS}", tmp_path / kind)
            asked[kind] = sorted(hub.requests)
    assert found["plain"] == found["registered"]
    assert asked["plain"] == asked["registered"]
    assert found["plain"]["sum"] == pytest.approx(expected)
    assert len(found["plain"]["errors"]) == 4
    assert "NoSuchPipeline" in found["plain"]["errors"][0][1]
