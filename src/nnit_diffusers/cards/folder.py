"""The folder of a published pipeline: weights in half precision, `pipeline.py`, and records of its training."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..contract import CONTRACT_NAME
from ..evaluation.tables import PICTURES
from ..loading.pipelines import PIPELINE_FILE, PIPELINE_FILE_NAME
from ..pipelines import NNiTPipeline
from ..writing import replace_folder, write_json


RECIPE_NAME = "recipe.json"
# Subfolder with the checkpoints and results of all training stages. It is not published.
WORK_FOLDER = "training"
# Records of training runs, and their titles in the card.
TRAINING_TITLES = {
    "training_nested.json": "the nested slices' training run",
    "training_ghn.json": "the hypernetwork's training run",
    "training_nnit.json": "the transformer's training run",
    "training_tuning.json": "the transformer's tuning",
    "training_steps.json": "the number of denoising steps",
}
# Results of the weights that were in the folder before, and what they were for.
_RESULTS = (
    *("evaluation.json", "README.md", "task.json", CONTRACT_NAME, "benchmark.json"),
    *("rollout.json", "rollout.mp4", "rollout.png"),
    *(f"{section}.png" for section in PICTURES),
)
_COMPONENTS = ("transformer", "scheduler", "architecture_scheduler", "tokenizer", "ghn", "nested")
# Written last: a folder without it holds no pipeline.
_INDEX = NNiTPipeline.config_name


def write_pipeline(
    pipeline: str | Path | NNiTPipeline, repo_dir: str | Path, records: Mapping[str, Any] | None = None
) -> None:
    """Writes a pipeline in half precision into a folder, with its contract and the records of its training runs.

    Everything is written beside the folder first, and then moved. Other files of the folder stay, except for the
    results and records of other weights: an evaluation, pictures, a film, a card, a recipe and training runs.

    Parameters:
        pipeline (`str`, `Path` or `NNiTPipeline`): The pipeline, or its folder.
        repo_dir (`str` or `Path`): Folder to write.
        records (`Mapping[str, Any]`, *optional*): JSON files to write beside the pipeline, by their names.
    """
    repo_dir = Path(repo_dir)
    repo_dir.mkdir(parents=True, exist_ok=True)
    # what a killed call has left, which would be published
    for left in repo_dir.glob(".*.tmp"):
        if left.is_dir() and left.name.split(".")[1] in ("pipeline", *_COMPONENTS):
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=repo_dir, prefix=".pipeline.", suffix=".tmp") as temporary:
        # the new pipeline
        new = Path(temporary) / "new"
        source = pipeline
        if isinstance(pipeline, NNiTPipeline):
            source = Path(temporary) / "source"
            pipeline.save_pretrained(source)
        NNiTPipeline.from_pretrained(source, dtype=torch.float16).save_pretrained(new)
        (new / PIPELINE_FILE_NAME).write_text(PIPELINE_FILE, encoding="utf-8")
        for name, record in (records or {}).items():
            write_json(new / name, record)
        # replace the old one: first its index goes, and the new index comes last
        (repo_dir / _INDEX).unlink(missing_ok=True)
        for name in _COMPONENTS:
            if not (new / name).exists():
                shutil.rmtree(repo_dir / name, ignore_errors=True)
        for name in (*_RESULTS, RECIPE_NAME, *TRAINING_TITLES):
            (repo_dir / name).unlink(missing_ok=True)
        for path in sorted(new.iterdir(), key=lambda path: path.name == _INDEX):
            if path.is_dir():
                replace_folder(path, repo_dir / path.name)
            else:
                path.replace(repo_dir / path.name)
