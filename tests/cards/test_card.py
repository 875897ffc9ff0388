"""Model cards: of the published pipelines, of a user's tasks, and with only some results."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tiny import tiny_pipeline
from tiny_tasks import TinyDataTask, TinyDemandTask
from untrained import FEW

from nnit_diffusers import get_task, register_task
from nnit_diffusers.cards import draw_pictures, write_card, write_pipeline
from nnit_diffusers.cards.card import card_data
from nnit_diffusers.evaluation.config import EvaluationConfig
from nnit_diffusers.evaluation.pipeline import evaluate_pipeline


NNIT = Path(__file__).parents[2] / "nnit"
SIZES = EvaluationConfig(**{**FEW, "direct_steps": 5, "widths": (8,), "documented_architecture": (8, 6)})


def card_of(repo):
    return (repo / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", ["digits", "pickcube", "pushcube", "stackcube-easy"])
def test_published_cards_are_up_to_date_with_their_evaluations(task, tmp_path):
    repo = tmp_path / task
    shutil.copytree(NNIT / task, repo)
    (repo / "README.md").unlink()
    write_card(repo, get_task(task), model_id=f"nnit/{task}")
    assert card_of(repo) == card_of(NNIT / task)
    card = ModelCard.load(repo / "README.md")
    assert card.data.library_name == "nnit-diffusers"
    report = json.loads((repo / "evaluation.json").read_text())
    published = {result.dataset_config: result.metric_value for result in card.data.eval_results}
    assert published == {region: round(part["nnit"]["mean"], 4) for region, part in report["regions"].items()}


# Of a user's tasks


@register_task("largest_of_three")
class LargestOfThreeTask(TinyDataTask):
    """Which of three numbers is the largest. A second sentence is left out."""


@register_task("reach_the_goal")
class ReachTheGoalTask(TinyDemandTask):
    """Networks reach a goal in a simulator of our own."""

    sample_name = "trial"


def repo_of(task, config, folder):
    """The folder of an untrained pipeline of a task, with its evaluation, pictures and card."""
    write_pipeline(tiny_pipeline(ghn=True), folder)
    draw_pictures(evaluate_pipeline(tiny_pipeline(ghn=True), task, folder / "evaluation.json", config), folder)
    write_card(folder, task, model_id=f"me/{task.name}")
    return folder


def test_the_card_of_a_users_classifier_says_accuracy_and_samples(tmp_path):
    repo = repo_of(LargestOfThreeTask(), SIZES, tmp_path / "repo")
    text, data = card_of(repo), ModelCard.load(repo / "README.md").data
    assert "Which of three numbers is the largest.\n" in text and "second sentence" not in text
    assert "the same 120 test samples" in text and "### Networks trained directly" in text
    assert 'from_pretrained("me/largest_of_three")' in text and "pipe(arch=[8, 6]" in text
    assert re.findall(r"\]\((\w+\.png)\)", text) == [
        f"{name}.png" for name in ("regions", "widths", "depths", "unconditional", "novelty", "steps")
    ]
    assert not re.search("robot|rollout|episode|success|polic|digit|maniskill", text, re.IGNORECASE)
    # the Hub would offer a pipeline of classifiers as a classifier
    assert data.pipeline_tag is None and "largest_of_three" in data.tags
    for result in data.eval_results:
        assert (result.task_type, result.metric_type) == ("tabular-classification", "accuracy")
        assert (result.dataset_type, result.dataset_split) == ("largest_of_three", "test")
        assert result.metric_name == "mean accuracy of all generated networks"
        assert result.source_url == "https://huggingface.co/me/largest_of_three/blob/main/evaluation.json"


def test_the_card_of_a_users_simulator_says_success_and_what_its_episodes_are_called(tmp_path):
    config = replace(SIZES, sections=("regions", "widths"), num_episodes=20, num_final_episodes=30)
    repo = repo_of(ReachTheGoalTask(), config, tmp_path / "repo")
    text, data = card_of(repo), ModelCard.load(repo / "README.md").data
    assert "Networks reach a goal in a simulator of our own.\n" in text
    assert "in the same 20 validation trials, and the best 1 of 3 by that score in the same 30 test trials" in text
    assert not re.search(r"robotics|maniskill|accuracy|\bsamples?\b", text, re.IGNORECASE)
    assert data.pipeline_tag is None
    for result in data.eval_results:
        assert (result.task_type, result.metric_type, result.dataset_split) == ("other", "success_rate", "validation")
        assert result.metric_name == "mean success rate of all generated networks"


def test_the_title_of_a_task_gets_no_tag_of_another_kind(tmp_path):
    """A registered name is a tag as it is."""
    report = {"settings": {}}
    assert card_data(LargestOfThreeTask(), report, "me/stars").tags[-1] == "largest_of_three"
    assert card_data(get_task("pickcube"), report, "me/robot").tags[-2:] == ["pickcube", "maniskill3"]


# What a card shows


def test_the_metadata_of_a_robot_task_has_success_rates():
    settings = {"num_final_episodes": 100}
    report = {"settings": settings, "regions": {"seen": {"nnit": {"mean": 0.91239}}}}
    data = card_data(get_task("pickcube"), report, "nnit/pickcube")
    (result,) = ModelCard(f"---\n{data.to_yaml()}\n---\n").data.eval_results
    assert (result.task_type, result.metric_type, result.metric_value) == ("robotics", "success_rate", 0.9124)
    assert (result.dataset_type, result.dataset_config, result.dataset_split) == ("pickcube", "seen", "validation")
    assert result.metric_name == "mean success rate of all generated networks"


def test_the_card_shows_the_pictures_in_its_folder(tmp_path):
    repo = tmp_path / "digits"
    shutil.copytree(NNIT / "digits", repo)
    for path in repo.glob("*.png"):
        path.unlink()
    write_card(repo, get_task("digits"))
    assert ".png)" not in card_of(repo)
    (repo / "novelty.png").write_bytes(b"picture")
    write_card(repo, get_task("digits"))
    # once, although two tables belong to it
    assert re.findall(r"\]\((\w+\.png)\)", card_of(repo)) == ["novelty.png"]


def test_the_example_is_that_of_the_evaluation_or_what_is_asked_for(robot_repo):
    task = get_task("pickcube")
    write_card(robot_repo, task)
    assert 'from_pretrained("' + "/".join(robot_repo.parts[-2:]) in card_of(robot_repo)
    write_card(robot_repo, task, model_id="me/mine", example_architecture=(32,), example_budget=777)
    for line in ('from_pretrained("me/mine")', "pipe(arch=[32], num_networks=8", "pipe(max_parameters=777)"):
        assert line in card_of(robot_repo)


def test_the_recipe_is_named_if_it_is_there(robot_repo):
    write_card(robot_repo, get_task("pickcube"))
    assert "--recipe" not in card_of(robot_repo)
    (robot_repo / "recipe.json").write_text("{}")
    (robot_repo / "training_ghn.json").write_text(json.dumps({"arguments": {"seed": 17}}))
    write_card(robot_repo, get_task("pickcube"))
    assert "`nnit train pickcube --recipe recipe.json --output DIR` repeats it" in card_of(robot_repo)
    assert '"seed": 17' in card_of(robot_repo)


def test_the_hub_accepts_the_metadata_of_a_robot_with_intervals_and_their_source(robot_repo):
    write_card(robot_repo, get_task("pickcube"))
    data = ModelCard.load(robot_repo / "README.md").data
    regions = json.loads((robot_repo / "evaluation.json").read_text())["regions"]
    assert data.pipeline_tag == "robotics"
    assert [result.dataset_config for result in data.eval_results] == list(regions)
    for result in data.eval_results:
        measured = regions[result.dataset_config]["nnit"]
        assert result.metric_value == round(measured["mean"], 4)
        assert result.metric_args == {"confidence_interval_95": [round(bound, 4) for bound in measured["interval"]]}
        assert result.source_name == "evaluation.json"
        # all were scored in validation episodes, and only the best ones in test episodes
        assert result.dataset_split == "validation"


def test_a_card_without_some_or_all_results_is_complete(robot_repo):
    report = json.loads((robot_repo / "evaluation.json").read_text())
    for regions in ({"seen": report["regions"]["seen"]}, None):
        left = {name: part for name, part in (report | {"regions": regions}).items() if part is not None}
        (robot_repo / "evaluation.json").write_text(json.dumps(left))
        write_card(robot_repo, get_task("pickcube"))
        card = card_of(robot_repo)
        assert not re.search(r"None[^,\]]|\{\{|\{%|rollout.mp4\)", card)
        assert ("Not measured yet." in card) == (regions is None)
        assert ("seen in training" in card) == (regions is not None)
    assert ModelCard.load(robot_repo / "README.md").data.eval_results is None


def test_the_card_names_methods_limits_and_the_authors_of_the_paper(robot_repo):
    write_card(robot_repo, get_task("pickcube"))
    card = card_of(robot_repo)
    assert "Brackets: 95% Student's t interval over architectures, never narrower than Wilson's interval" in card
    assert "Intervals describe how the mean varies over architectures or networks, not over episodes." in card
    assert "author    = {Kim, Jiwoo and Mehta, Swarajh and Hsu, Hao-Lun and Ryu, Hyunwoo and Liu, Yudong" in card
    assert "## Limits" in card and "### What fails" in card
