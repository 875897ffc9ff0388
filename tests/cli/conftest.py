"""Fixtures: a tiny published pipeline, and a function that runs `nnit` in this process."""

import json
from types import SimpleNamespace

import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from tiny import tiny_pipeline

from nnit_diffusers.cli.main import run
from nnit_diffusers.pipelines.fingerprint import fingerprints
from nnit_diffusers.writing import write_json


def write_card(folder, **data):
    results = [
        EvalResult("tabular-classification", "tiny_data", "tiny", "accuracy", 0.3457, dataset_config="seen"),
        EvalResult("tabular-classification", "tiny_data", "tiny", "accuracy", 0.3, dataset_config="deeper"),
    ]
    defaults = {"license": "apache-2.0", "library_name": "nnit-diffusers", "model_name": "nnit/tiny"}
    card = ModelCardData(**{**defaults, "eval_results": results, **data})
    table = "| train | 34.6% (20.0 to 50.0) |\n| deeper | 30.0% (20.0 to 50.0) |"
    ModelCard(f"---\n{card.to_yaml()}\n---\n\n# Tiny\n\n{table}\n").save(folder / "README.md")


@pytest.fixture
def published(tmp_path):
    """A pipeline's folder with everything that `nnit publish` checks."""
    folder = tmp_path / "nnit" / "tiny"
    pipeline = tiny_pipeline(ghn=True)
    pipeline.save_pretrained(folder)
    (folder / "pipeline.py").write_text("from nnit_diffusers import NNiTPipeline  # noqa: F401\n")
    statistics = {"min": 0.1, "interval": [0.2, 0.5], "interval_method": "student_t", "num_architectures": 5}
    report = {
        "settings": {"task": "tiny_data", "num_inference_steps": 20, **fingerprints(pipeline)},
        "regions": {
            "seen": {"nnit": {"mean": 0.34567, **statistics}, "num_networks": 10},
            "deeper": {"nnit": {"mean": 0.3, **statistics}, "num_networks": 10},
        },
    }
    write_json(folder / "evaluation.json", report)
    write_card(folder)
    return folder


@pytest.fixture
def nnit(capsys, monkeypatch, tmp_path):
    """Runs the command in an empty folder, in this process; returns exit code and output."""
    monkeypatch.chdir(tmp_path)

    def run_here(*arguments):
        try:
            code = run([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        result = SimpleNamespace(code=code, out=out, err=err)
        if "--json" in arguments and code < 2:
            result.json = json.loads(out)
        return result

    return run_here


@pytest.fixture
def networks(nnit, published):
    """Two networks that `nnit generate` wrote."""
    options = ["--arch", 9, 7, "--num-networks", 2, "--num-inference-steps", 1, "--output", "networks"]
    assert nnit("generate", published, *options).code == 0
    return "networks"
