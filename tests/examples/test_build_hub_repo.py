import json
import re
import shutil
from pathlib import Path

import build_hub_repo
import pytest
import robot_card
import torch
from build_hub_repo import Arguments, card_data, write_card, write_weights
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from nnit_diffusers import NNiTPipeline


PUBLISHED = Path(__file__).parents[2] / "nnit" / "digits"


@pytest.fixture
def trained(digits_pipeline_folder, tmp_path):
    """Output of the training scripts."""
    shutil.copytree(digits_pipeline_folder, tmp_path / "nnit" / "pipeline")
    (tmp_path / "ghn").mkdir()
    arguments = {"ghn_name_or_path": str(tmp_path / "ghn" / "ghn"), "pretrained_model_name_or_path": None, "seed": 0}
    record = {"arguments": arguments}
    for name in ("nnit", "ghn"):
        (tmp_path / name / "training.json").write_text(json.dumps(record))
    return tmp_path / "nnit" / "pipeline"


def test_published_weights_are_in_half_precision_and_used_in_single(trained, tmp_path):
    write_weights(trained, tmp_path / "repo")
    on_disk = load_file(tmp_path / "repo" / "transformer" / "diffusion_pytorch_model.safetensors")
    # All but the time embeddings, which the model keeps in single precision.
    kept = {name for name, tensor in on_disk.items() if tensor.dtype != torch.float16}
    assert kept == {name for name in on_disk if "time_embed" in name or "scale_shift_table" in name}
    published, original = (NNiTPipeline.from_pretrained(folder) for folder in (tmp_path / "repo", trained))
    assert published.transformer.dtype == published.ghn.dtype == torch.float32
    torch.testing.assert_close(
        published.transformer.proj_out.weight, original.transformer.proj_out.weight, rtol=1e-3, atol=1e-5
    )


def test_the_folder_has_training_records_and_is_replaced_completely(trained, tmp_path):
    for _ in range(2):
        write_weights(trained, tmp_path / "repo")
    names = {path.name for path in (tmp_path / "repo").iterdir()}
    assert {"training_ghn.json", "training_nnit.json", "pipeline.py", "model_index.json"} <= names
    index = json.loads((tmp_path / "repo" / "model_index.json").read_text())
    assert index["transformer"] == ["nnit_diffusers", "NNiTTransformer"]


def test_a_pipeline_without_a_training_record_is_refused(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "pipeline")
    with pytest.raises(ValueError, match="`training.json` beside it, but received .*pipeline'"):
        write_weights(tmp_path / "pipeline", tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_both_training_runs_of_a_tuned_transformer_are_recorded(trained, tmp_path):
    """The weights are the same here; only the record names the pipeline that the training run started from."""
    record = json.loads((trained.parent / "training.json").read_text())
    record["arguments"]["pretrained_model_name_or_path"] = str(trained)
    shutil.copytree(trained, tmp_path / "tuned" / "pipeline")
    (tmp_path / "tuned" / "training.json").write_text(json.dumps(record))
    write_weights(tmp_path / "tuned" / "pipeline", tmp_path / "repo")
    first, tuning = (
        json.loads((tmp_path / "repo" / f"training_{name}.json").read_text())["arguments"]
        for name in ("nnit", "tuning")
    )
    assert first["pretrained_model_name_or_path"] is None
    assert tuning["pretrained_model_name_or_path"] == str(trained)
    assert (tmp_path / "repo" / "training_ghn.json").exists()


@pytest.mark.parametrize("task", ["digits", "pickcube", "pushcube", "stackcube-easy"])
def test_published_cards_are_up_to_date_with_their_evaluations(task, tmp_path):
    repo = tmp_path / task
    shutil.copytree(PUBLISHED.parent / task, repo)
    (repo / "README.md").unlink()
    write_card(Arguments(repo_dir=str(repo), task=task))
    assert (repo / "README.md").read_text() == (PUBLISHED.parent / task / "README.md").read_text()
    card = ModelCard.load(repo / "README.md")
    assert card.data.library_name == "nnit-diffusers"
    report = json.loads((repo / "evaluation.json").read_text())
    published = {result.dataset_config: result.metric_value for result in card.data.eval_results}
    assert published == {region: round(part["nnit"]["mean"], 4) for region, part in report["regions"].items()}


def test_the_metadata_of_a_robot_task_has_success_rates():
    settings = {"num_final_episodes": 100}
    data = card_data("pickcube", {"settings": settings, "regions": {"seen": {"nnit": {"mean": 0.91239}}}})
    (result,) = ModelCard(f"---\n{data.to_yaml()}\n---\n").data.eval_results
    assert (result.task_type, result.metric_type, result.metric_value) == ("robotics", "success_rate", 0.9124)
    assert (result.dataset_type, result.dataset_config, result.dataset_split) == ("pickcube", "seen", "validation")
    assert result.metric_name == "mean success rate of all generated networks"


def test_without_an_evaluation_there_is_no_card(trained, tmp_path, capsys):
    build_hub_repo.main(Arguments(repo_dir=str(tmp_path / "repo"), pipeline_dir=str(trained)))
    assert not (tmp_path / "repo" / "README.md").exists()
    assert "evaluate_nnit.py" in capsys.readouterr().out


def test_the_card_shows_the_pictures_in_its_folder(tmp_path):
    repo = tmp_path / "digits"
    shutil.copytree(PUBLISHED, repo)
    for name in ("regions", "widths", "unconditional", "novelty", "steps"):
        (repo / f"{name}.png").unlink(missing_ok=True)
    write_card(Arguments(repo_dir=str(repo)))
    assert ".png)" not in (repo / "README.md").read_text()
    (repo / "novelty.png").write_bytes(b"picture")
    write_card(Arguments(repo_dir=str(repo)))
    # Once, although two tables belong to it.
    assert re.findall(r"\]\((\w+\.png)\)", (repo / "README.md").read_text()) == ["novelty.png"]


def film(folder, **report):
    """Files of a film, as `film_rollouts.py` writes them, without its pictures."""
    folder.mkdir()
    (folder / "rollout.mp4").write_bytes(b"video")
    (folder / "rollout.png").write_bytes(b"strip")
    strip = [{"success_once": True}, {"success_once": False}]
    (folder / "rollout.json").write_text(json.dumps({"caption": "3 of all 10 failed.", "strip": strip, **report}))
    return folder


@pytest.fixture
def robot_repo(robot_pipeline_folder, rollouts_path, tmp_path):
    """A robot's repository with an evaluation of some regions."""
    repo = tmp_path / "pickcube"
    shutil.copytree(robot_pipeline_folder, repo)
    report = json.loads(rollouts_path.read_text())
    report["settings"]["task"] = "pickcube"
    (repo / "evaluation.json").write_text(json.dumps(report))
    return repo


def test_the_card_of_a_robot_has_film_failures_and_how_to_run_it(robot_repo, tmp_path):
    arguments = Arguments(repo_dir=str(robot_repo), task="pickcube", film_dir=str(film(tmp_path / "film")))
    build_hub_repo.main(arguments)
    assert (robot_repo / "rollout.mp4").read_bytes() == b"video"
    card = (robot_repo / "README.md").read_text()
    assert '<video controls muted loop src="rollout.mp4"></video>' in card and "3 of all 10 failed." in card
    assert "![Moments of a success and of a failure](rollout.png)" in card
    assert re.search(r"^- seen in training: `\[\d+.*\]` is the weakest of 2 architectures, with", card, re.MULTILINE)
    assert "Actions can lie outside -1…1, and have to be clipped" in card
    assert "`PickCube-v1` of ManiSkill3 with state observations (42 numbers" in card
    assert 'evaluate(policies, get_task("pickcube"), num_episodes=50)' in card
    assert "in the same 20 validation episodes, and the best 1 of 2" in card and "samples" not in card
    assert "arch=[128, 256]" in card and "StackCubeEasy" not in card
    for code in re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL):
        compile(code, "card", "exec")


def test_the_hub_accepts_the_metadata_of_a_robot_with_intervals_and_their_source(robot_repo):
    write_card(Arguments(repo_dir=str(robot_repo), task="pickcube"))
    data = ModelCard.load(robot_repo / "README.md").data
    regions = json.loads((robot_repo / "evaluation.json").read_text())["regions"]
    assert data.pipeline_tag == "robotics"
    assert [result.dataset_config for result in data.eval_results] == list(regions)
    for result in data.eval_results:
        measured = regions[result.dataset_config]["nnit"]
        assert result.metric_value == round(measured["mean"], 4)
        assert result.metric_args == {"confidence_interval_95": [round(bound, 4) for bound in measured["interval"]]}
        assert result.source_name == "evaluation.json"
        # All were scored in validation episodes, and only the best ones in test episodes.
        assert result.dataset_split == "validation"


def test_a_card_without_some_or_all_results_is_complete(robot_repo):
    report = json.loads((robot_repo / "evaluation.json").read_text())
    for regions in ({"seen": report["regions"]["seen"]}, None):
        left = {name: part for name, part in (report | {"regions": regions}).items() if part is not None}
        (robot_repo / "evaluation.json").write_text(json.dumps(left))
        write_card(Arguments(repo_dir=str(robot_repo), task="pickcube"))
        card = (robot_repo / "README.md").read_text()
        assert not re.search(r"None[^,\]]|\{\{|\{%|rollout.mp4\)", card)
        assert ("Not measured yet." in card) == (regions is None)
        assert ("seen in training" in card) == (regions is not None)
    assert ModelCard.load(robot_repo / "README.md").data.eval_results is None


def test_the_card_of_stacking_states_whose_definition_it_is(robot_repo):
    write_card(Arguments(repo_dir=str(robot_repo), task="stackcube-easy"))
    card = (robot_repo / "README.md").read_text()
    assert "StackCubeEasy is our definition" in card and "at least 0.08 m apart" in card


def test_a_film_with_missing_files_is_refused(robot_repo, tmp_path):
    folder = film(tmp_path / "film")
    (folder / "rollout.png").unlink()
    with pytest.raises(ValueError, match=r"`film_dir` must be a folder .* which lacks \['rollout.png'\]"):
        build_hub_repo.main(Arguments(repo_dir=str(robot_repo), task="pickcube", film_dir=str(folder)))


def test_the_card_names_methods_limits_and_the_authors_of_the_paper(robot_repo):
    write_card(Arguments(repo_dir=str(robot_repo), task="pickcube"))
    card = (robot_repo / "README.md").read_text()
    assert "Brackets: 95% Student's t interval over architectures, never narrower than Wilson's interval" in card
    assert "Intervals describe how the mean varies over architectures or networks, not over episodes." in card
    assert "author    = {Kim, Jiwoo and Mehta, Swarajh and Hsu, Hao-Lun and Ryu, Hyunwoo and Liu, Yudong" in card
    assert "## Limits" in card and "### What fails" in card


def test_widths_that_fail_are_named():
    widths = {
        str(width): {"hidden_sizes": [width] * 2, "nnit": {"mean": mean}} for width, mean in ((8, 0.1), (64, 0.9))
    }
    assert robot_card.what_fails({"widths": widths}) == ["Widths with a mean success below 50%: `[8, 8]` 10.0%."]
