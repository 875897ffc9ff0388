import json
import shutil
from pathlib import Path

import build_hub_repo
import pytest
import torch
from build_hub_repo import Arguments, card_data, write_card, write_weights
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from nnit_diffusers import NNiTPipeline


PUBLISHED = Path(__file__).parents[2] / "nnit" / "digits"


@pytest.fixture
def trained(digits_pipeline_folder, tmp_path):
    """What the training scripts leave behind."""
    shutil.copytree(digits_pipeline_folder, tmp_path / "nnit" / "pipeline")
    (tmp_path / "ghn").mkdir()
    record = {"arguments": {"ghn_name_or_path": str(tmp_path / "ghn" / "ghn"), "seed": 0}}
    for name in ("nnit", "ghn"):
        (tmp_path / name / "training.json").write_text(json.dumps(record))
    return tmp_path / "nnit" / "pipeline"


def test_published_weights_are_in_half_precision_and_used_in_single(trained, tmp_path):
    write_weights(trained, tmp_path / "repo")
    on_disk = load_file(tmp_path / "repo" / "transformer" / "diffusion_pytorch_model.safetensors")
    # All but the few that the model keeps in single precision, its embeddings of time.
    kept = {name for name, tensor in on_disk.items() if tensor.dtype != torch.float16}
    assert kept == {name for name in on_disk if "time_embed" in name or "scale_shift_table" in name}
    published, original = (NNiTPipeline.from_pretrained(folder) for folder in (tmp_path / "repo", trained))
    assert published.transformer.dtype == published.ghn.dtype == torch.float32
    torch.testing.assert_close(
        published.transformer.proj_out.weight, original.transformer.proj_out.weight, rtol=1e-3, atol=1e-5
    )


def test_the_folder_says_which_trainings_made_it_and_is_replaced_as_a_whole(trained, tmp_path):
    for _ in range(2):
        write_weights(trained, tmp_path / "repo")
    names = {path.name for path in (tmp_path / "repo").iterdir()}
    assert {"training_ghn.json", "training_nnit.json", "pipeline.py", "model_index.json"} <= names
    index = json.loads((tmp_path / "repo" / "model_index.json").read_text())
    assert index["transformer"] == ["nnit_diffusers", "NNiTTransformer"]


def test_the_published_card_is_what_its_evaluation_gives(tmp_path):
    repo = tmp_path / "digits"
    shutil.copytree(PUBLISHED, repo)
    (repo / "README.md").unlink()
    write_card(Arguments(repo_dir=str(repo)))
    assert (repo / "README.md").read_text() == (PUBLISHED / "README.md").read_text()
    card = ModelCard.load(repo / "README.md")
    assert card.data.library_name == "nnit-diffusers"
    report = json.loads((repo / "evaluation.json").read_text())
    published = {result.dataset_config: result.metric_value for result in card.data.eval_results}
    assert published == {split: round(part["nnit"]["mean"], 4) for split, part in report["splits"].items()}


def test_the_metadata_of_a_robot_task_reports_success():
    settings = {"num_final_episodes": 100}
    data = card_data("pickcube", {"settings": settings, "splits": {"train": {"nnit": {"mean": 0.91239}}}})
    (result,) = ModelCard(f"---\n{data.to_yaml()}\n---\n").data.eval_results
    assert (result.task_type, result.metric_type, result.metric_value) == ("robotics", "success_rate", 0.9124)
    assert (result.dataset_type, result.dataset_config, result.dataset_split) == ("pickcube", "train", "validation")
    assert result.metric_name == "mean success rate of all generated networks"


def test_without_an_evaluation_there_is_no_card(trained, tmp_path, capsys):
    build_hub_repo.main(Arguments(repo_dir=str(tmp_path / "repo"), pipeline_dir=str(trained)))
    assert not (tmp_path / "repo" / "README.md").exists()
    assert "evaluate_nnit.py" in capsys.readouterr().out
