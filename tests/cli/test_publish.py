"""The command `nnit publish` passes an intact folder, and names what is wrong with any other."""

import json

import pytest
import torch
from conftest import write_card
from tiny import tiny_pipeline

from nnit_diffusers.writing import write_json


def failed_checks(result):
    return {check["name"]: check["problem"] for check in result.json["checks"] if check["problem"]}


def test_a_valid_folder_passes_all_checks(nnit, published):
    result = nnit("publish", published, "--dry-run", "--json")
    assert (result.code, failed_checks(result)) == (0, {})
    assert (result.json["repo_id"], result.json["commit_url"], len(result.json["checks"])) == ("nnit/tiny", None, 7)


def add_pickle(folder):
    (folder / "transformer" / "optimizer.pt").write_bytes(b"")


def add_code(folder):
    (folder / "pipeline.py").write_text("import os\nfrom nnit_diffusers import NNiTPipeline\n")


def truncate_weights(folder):
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def poison_weights(folder):
    pipeline = tiny_pipeline(ghn=True)
    with torch.no_grad():
        for parameter in pipeline.transformer.parameters():
            parameter.fill_(float("nan"))
    pipeline.transformer.save_pretrained(folder / "transformer")


def change_weights(folder):
    pipeline = tiny_pipeline(ghn=True)
    with torch.no_grad():
        next(pipeline.transformer.parameters()).add_(0.01)
    pipeline.transformer.save_pretrained(folder / "transformer")


def change_result(folder):
    report = json.loads((folder / "evaluation.json").read_text())
    report["regions"]["seen"]["nnit"]["mean"] = 0.99
    write_json(folder / "evaluation.json", report)


def change_json(name, **changed):
    def change(folder):
        write_json(folder / name, {**json.loads((folder / name).read_text()), **changed})

    return change


def forget_sampler(folder):
    report = json.loads((folder / "evaluation.json").read_text())
    del report["settings"]["sampler_sha256"]
    write_json(folder / "evaluation.json", report)


def edit_card(old, new):
    def change(folder):
        card = folder / "README.md"
        assert old in card.read_text()
        card.write_text(card.read_text().replace(old, new))

    return change


MEASURED = "evaluation.json was measured with these weights and this sampler"


@pytest.mark.parametrize(
    ("spoil", "check", "problem"),
    [
        (add_pickle, "the folder holds only files of a pipeline", "transformer/optimizer.pt must be one of"),
        (add_code, "the folder holds only files of a pipeline", "pipeline.py must be"),
        (truncate_weights, "the pipeline loads", "transformer"),
        (poison_weights, "generated networks have the requested architecture", "not finite"),
        (change_weights, MEASURED, "`weights_sha256` of evaluation.json must be"),
        (change_json("scheduler/scheduler_config.json", shift=2.0), MEASURED, "`sampler_sha256` of evaluation.json"),
        (change_json("model_index.json", min_width=5), MEASURED, "`sampler_sha256` of evaluation.json"),
        (forget_sampler, MEASURED, "must record `sampler_sha256` in its settings, but lacks it"),
        (change_result, "the card's metadata has the results", "{'seen': 0.99, 'deeper': 0.3}"),
        (edit_card("0.3457", "0.9457"), "the card's metadata has the results", "but has {'seen': 0.9457,"),
        (edit_card("34.6% (", "94.6% ("), "the card's tables have the results", "94.6% (20.0 to 50.0)"),
        (
            edit_card("34.6%", "35%"),
            "the card's tables have the results",
            "34.6% (20.0 to 50.0) for region 'seen'",
        ),
        (lambda folder: (folder / "README.md").unlink(), "the card has the metadata", "README.md"),
        (lambda folder: write_card(folder, library_name="diffusers"), "the card has the metadata", "'diffusers'"),
        (lambda folder: write_card(folder, license=None), "the card has the metadata", "`license`"),
        (lambda folder: write_card(folder, eval_results=None), "the card has the metadata", "`model-index`"),
    ],
)
def test_an_invalid_folder_is_not_published(nnit, published, monkeypatch, spoil, check, problem):
    # An upload would fail for lack of a Hub, with exit code 2.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    spoil(published)
    result = nnit("publish", published, "--json")
    assert result.code == 1
    (found,) = [text for name, text in failed_checks(result).items() if name.startswith(check)]
    assert problem in found
