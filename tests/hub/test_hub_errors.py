"""What the Hub cannot give is one error that says what was found and what to do, and the cache goes on working."""

import json
import shutil

import pytest
import torch
from loopback_hub import LoopbackHub
from tiny import tiny_pipeline

from nnit_diffusers import MLP


# Every case ends with a `ValueError` or an `OSError`, whose message is what is looked at.
TRY = """
import json, pathlib, re, torch
from nnit_diffusers import MLP, GraphHyperNetwork, NNiTPipeline, NNiTTransformer, WeightPatchTokenizer

def error_of(load, *arguments, **options):
    try:
        load(*arguments, **options)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"

def cached(name):
    (path,) = pathlib.Path(CACHE).glob(f"hub/models--nnit--tiny/snapshots/*/{name}")
    return path

def damage(name, change):
    blob = cached(name).resolve()
    blob.write_bytes(change(blob.read_bytes()))

load = NNiTPipeline.from_pretrained
errors = {}
"""

CASES = """
errors["private"] = error_of(load, "nnit/secret")
errors["private component"] = error_of(NNiTTransformer.from_pretrained, "nnit/secret", subfolder="transformer")
errors["private tokenizer"] = error_of(WeightPatchTokenizer.from_pretrained, "nnit/secret", subfolder="tokenizer")
errors["private network"] = error_of(MLP.from_pretrained, "nnit/secret")
errors["revision"] = error_of(load, "nnit/tiny", revision="no-such-branch")
errors["variant"] = error_of(load, "nnit/tiny", variant="bf16")
errors["component"] = error_of(load, "nnit/no_tokenizer")
errors["other library"] = error_of(load, "nnit/mlp")
errors["other pipeline"] = error_of(load, "nnit/stable")
errors["pickles"] = error_of(load, "nnit/pickles")
errors["pickled component"] = error_of(NNiTTransformer.from_pretrained, "nnit/pickles", subfolder="transformer")
errors["pickled network"] = error_of(MLP.from_pretrained, "nnit/pickled_mlp")
errors["no such thing"] = error_of(load, "no such thing")

MLP.from_pretrained("nnit/mlp")
load("nnit/tiny")
kinds = {
    "truncated": lambda content: content[:-1000],
    "altered": lambda content: content[:-1000] + bytes(1000),
    "emptied": lambda content: b"",
}
for name in ("transformer/diffusion_pytorch_model.safetensors", "ghn/config.json", "tokenizer/tokenizer_config.json"):
    for kind, change in kinds.items():
        damage(name, change)
        errors[f"{kind} {name}"] = message = error_of(load, "nnit/tiny")
        # Follow the advice of the message.
        pathlib.Path(re.search(r"Delete '(.+?)' and load again", message)[1]).unlink()
        load("nnit/tiny")
print(json.dumps(errors))
"""

WITHOUT_NETWORK = """
load("nnit/tiny")
MLP.from_pretrained("nnit/mlp")
errors["pipeline"] = error_of(load, "nnit/other")
errors["component"] = error_of(NNiTTransformer.from_pretrained, "nnit/other", subfolder="transformer")
errors["network"] = error_of(MLP.from_pretrained, "nnit/other")
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    tiny_pipeline(ghn=True).save_pretrained(folder / "tiny")
    MLP(5, [4], 3).save_pretrained(folder / "mlp")

    shutil.copytree(folder / "tiny", folder / "no_tokenizer")
    shutil.rmtree(folder / "no_tokenizer" / "tokenizer")
    shutil.copytree(folder / "tiny", folder / "stable")
    index = json.loads((folder / "tiny" / "model_index.json").read_text())
    (folder / "stable" / "model_index.json").write_text(
        json.dumps({**index, "_class_name": "StableDiffusionPipeline"})
    )
    shutil.copytree(folder / "tiny", folder / "pickles")
    for weights in (folder / "pickles").rglob("*.safetensors"):
        weights.unlink()
        torch.save({}, weights.with_suffix(".bin"))
    shutil.copytree(folder / "mlp", folder / "pickled_mlp")
    (folder / "pickled_mlp" / "model.safetensors").unlink()
    torch.save({}, folder / "pickled_mlp" / "pytorch_model.bin")
    with LoopbackHub() as hub:
        for path in folder.iterdir():
            hub.publish(f"nnit/{path.name}", path)
        hub.publish("nnit/secret", folder / "tiny", is_private=True)
        yield hub


@pytest.fixture(scope="module")
def tried(hub, tmp_path_factory):
    """The errors of all cases, and the cache that they leave."""
    cache = tmp_path_factory.mktemp("cache")
    return hub.run(f"CACHE = {str(cache)!r}{TRY}{CASES}", cache), cache


def test_what_cannot_be_loaded_is_one_clear_error_and_the_cache_goes_on_working(hub, tried):
    errors, _ = tried
    for name in ("private", "private component", "private tokenizer", "private network"):
        assert "private" in errors[name] and "token" in errors[name] and "nnit/secret" in errors[name], errors[name]
    assert "no-such-branch" in errors["revision"] and "evision" in errors["revision"], errors["revision"]
    assert "bf16" in errors["variant"], errors["variant"]
    assert "lacks its tokenizer" in errors["component"]
    assert "'nnit/mlp' on the Hub is no NNiTPipeline: it has no model_index.json" in errors["other library"]
    assert "must be of a NNiTPipeline, but is of 'StableDiffusionPipeline'" in errors["other pipeline"]
    assert "necessary `safetensors` weights" in errors["pickles"], errors["pickles"]
    for name in ("pickled component", "pickled network"):
        assert "There is no file named" in errors[name] and ".safetensors in" in errors[name], errors[name]
    assert not any(request.startswith("GET") and ".bin" in request for request in hub.requests)
    assert "no such thing" in errors["no such thing"], errors["no such thing"]

    damaged = {name: message for name, message in errors.items() if "/" in name}
    assert len(damaged) == 9
    for name, message in damaged.items():
        assert (name.split()[1] in message and "altered" in message) or "not JSON" in message, message


def test_without_a_network_what_is_cached_loads_and_the_rest_is_one_clear_error(tried):
    _, cache = tried
    with LoopbackHub() as gone:
        pass  # nobody listens there any more
    errors = gone.run(f"CACHE = {str(cache)!r}{TRY}{WITHOUT_NETWORK}", cache)
    for message in errors.values():
        assert "nnit/other" in message and ("connect" in message.lower() or "cache" in message.lower()), message
