"""The folder of a published pipeline: what is written, what is replaced, and what an interruption leaves."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_pipeline

from nnit_diffusers import NNiTPipeline
from nnit_diffusers.cards import write_pipeline


COMPONENTS = ("transformer", "ghn", "nested", "tokenizer", "scheduler", "architecture_scheduler")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def other_pipeline():
    """A pipeline of other weights."""
    pipe = tiny_pipeline(ghn=True)
    with torch.no_grad():
        for model in (pipe.transformer, pipe.ghn):
            for parameter in model.parameters():
                parameter.add_(1)
    return pipe


def test_published_weights_are_in_half_precision_and_used_in_single(digits_pipeline_folder, tmp_path):
    write_pipeline(digits_pipeline_folder, tmp_path / "repo")
    on_disk = load_file(tmp_path / "repo" / "transformer" / "diffusion_pytorch_model.safetensors")
    # all but the time embeddings, which the model keeps in single precision
    kept = {name for name, tensor in on_disk.items() if tensor.dtype != torch.float16}
    assert kept == {name for name in on_disk if "time_embed" in name or "scale_shift_table" in name}
    published, original = (
        NNiTPipeline.from_pretrained(folder) for folder in (tmp_path / "repo", digits_pipeline_folder)
    )
    assert published.transformer.dtype == published.ghn.dtype == torch.float32
    torch.testing.assert_close(
        published.transformer.proj_out.weight, original.transformer.proj_out.weight, rtol=1e-3, atol=1e-5
    )


def test_a_pipeline_and_its_folder_give_the_same_files(tmp_path):
    pipe = tiny_pipeline(ghn=True)
    pipe.save_pretrained(tmp_path / "saved")
    write_pipeline(pipe, tmp_path / "from_pipeline", {"recipe.json": {"seed": 1}})
    write_pipeline(tmp_path / "saved", tmp_path / "from_folder", {"recipe.json": {"seed": 1}})
    files, others = contents(tmp_path / "from_pipeline"), contents(tmp_path / "from_folder")
    assert json.loads(files["recipe.json"]) == {"seed": 1}
    assert {"pipeline.py", "model_index.json"} < set(files) == set(others)
    assert {name.split("/")[0] for name in files if "/" in name} == set(COMPONENTS)
    assert json.loads(files["model_index.json"])["transformer"] == ["nnit_diffusers", "NNiTTransformer"]
    for name, content in files.items():
        if name.endswith(".safetensors"):
            assert content == others[name]
    # the weights that the caller holds are left as they were
    assert pipe.transformer.dtype == torch.float32


def test_components_that_a_new_pipeline_lacks_go(tmp_path):
    write_pipeline(tiny_pipeline(ghn=True), tmp_path)
    write_pipeline(tiny_pipeline(), tmp_path)
    assert not (tmp_path / "ghn").exists() and not (tmp_path / "nested").exists()
    loaded = NNiTPipeline.from_pretrained(tmp_path)
    assert loaded.ghn is loaded.nested is None


def test_results_and_records_of_other_weights_go_and_other_files_stay(tmp_path):
    write_pipeline(tiny_pipeline(ghn=True), tmp_path, {"recipe.json": {}, "training_tuning.json": {}})
    stale = ("evaluation.json", "README.md", "benchmark.json", "regions.png", "rollout.png", "rollout.mp4")
    for name in (*stale, "rollout.json", "LICENSE"):
        (tmp_path / name).write_text("old")
    write_pipeline(other_pipeline(), tmp_path, {"training_ghn.json": {"arguments": {}}})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*COMPONENTS, "model_index.json", "pipeline.py", "training_ghn.json", "LICENSE"}
    loaded = NNiTPipeline.from_pretrained(tmp_path)
    torch.testing.assert_close(
        loaded.ghn.state_dict(), {k: v.half().float() for k, v in other_pipeline().ghn.state_dict().items()}
    )


def test_a_pipeline_that_cannot_be_loaded_leaves_the_folder_as_it_is(tmp_path):
    write_pipeline(tiny_pipeline(ghn=True), tmp_path / "repo")
    before = contents(tmp_path / "repo")
    shutil.copytree(tmp_path / "repo", tmp_path / "damaged")
    (tmp_path / "damaged" / "ghn" / "diffusion_pytorch_model.safetensors").write_bytes(b"\0" * 100)
    for damaged in (tmp_path / "damaged", tmp_path / "missing"):
        with pytest.raises((OSError, ValueError)):
            write_pipeline(damaged, tmp_path / "repo")
        assert contents(tmp_path / "repo") == before


def state_of(folder):
    """`"none"` if there is no pipeline, otherwise whether its weights are the old or the new ones."""
    if not (folder / "model_index.json").exists():
        return "none"
    loaded = NNiTPipeline.from_pretrained(folder)
    half = {name: value.half().float() for name, value in loaded.transformer.state_dict().items()}
    old, new = (pipe.transformer.state_dict() for pipe in (tiny_pipeline(ghn=True), other_pipeline()))
    kinds = {
        kind
        for kind, weights in (("old", old), ("new", new))
        if all(torch.allclose(half[name], weights[name], atol=1e-2) for name in half)
    }
    ghns = {"old": tiny_pipeline(ghn=True).ghn, "new": other_pipeline().ghn}
    (kind,) = kinds
    for name, value in loaded.ghn.state_dict().items():
        torch.testing.assert_close(value, ghns[kind].state_dict()[name], atol=1e-2, rtol=1e-2)
    return kind


def test_an_interruption_at_any_move_leaves_no_mixed_pipeline(tmp_path, monkeypatch):
    """Ctrl-C before every move in turn; the next call makes up for all of it."""
    states = []
    for number in range(30):
        write_pipeline(tiny_pipeline(ghn=True), tmp_path)
        moves: list[Path] = []

        def interrupting(move, moves=moves, number=number):
            def moved(self, target):
                if len(moves) == number:
                    raise KeyboardInterrupt
                moves.append(target)
                return move(self, target)

            return moved

        with monkeypatch.context() as patch:
            for name in ("rename", "replace"):
                patch.setattr(Path, name, interrupting(getattr(Path, name)))
            try:
                write_pipeline(other_pipeline(), tmp_path)
            except KeyboardInterrupt:
                pass
            else:
                break
        states.append(state_of(tmp_path))
        # nothing else is left
        assert not list(tmp_path.glob(".*"))
    # none from the first move on: of five components, `pipeline.py`, and the index, which comes last
    assert len(states) >= 7 and set(states) == {"none"}
    assert state_of(tmp_path) == "new"


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tiny import tiny_pipeline
from nnit_diffusers.cards import write_pipeline

rename, moves = Path.rename, []
def killed(self, target):
    moves.append(target)
    if len(moves) == 4:
        os._exit(9)
    return rename(self, target)
Path.rename = killed
write_pipeline(tiny_pipeline(ghn=True), sys.argv[1])
"""


def test_a_killed_process_leaves_no_pipeline_and_the_next_one_writes_it(tmp_path):
    write_pipeline(other_pipeline(), tmp_path)
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parents[1])]
    process = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert process.returncode == 9, process.stderr
    assert state_of(tmp_path) == "none"
    with pytest.raises((OSError, ValueError)):
        NNiTPipeline.from_pretrained(tmp_path)
    write_pipeline(tiny_pipeline(ghn=True), tmp_path)
    assert state_of(tmp_path) == "old"
    assert not list(tmp_path.glob(".*"))
