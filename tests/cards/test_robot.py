"""What only the cards of robots have: a film, failures, and how to run a rollout."""

import re

import pytest

from nnit_diffusers import get_task
from nnit_diffusers.cards import write_card
from nnit_diffusers.cards.robot import copy_film, what_fails


def test_the_card_of_a_robot_has_film_failures_and_how_to_run_it(robot_repo, film):
    copy_film(film, robot_repo)
    write_card(robot_repo, get_task("pickcube"))
    assert (robot_repo / "rollout.mp4").read_bytes() == b"video"
    card = (robot_repo / "README.md").read_text()
    assert '<video controls muted loop src="rollout.mp4"></video>' in card and "3 of all 10 failed." in card
    assert "![Moments of a success and of a failure](rollout.png)" in card
    assert re.search(r"^- seen in training: `\[\d+.*\]` is the weakest of 2 architectures, with", card, re.MULTILINE)
    assert "Actions can lie outside -1…1, and have to be clipped" in card
    assert "`PickCube-v1` of ManiSkill3 with state observations (42 numbers" in card
    assert 'evaluate(policies, get_task("pickcube"), num_episodes=50)' in card
    assert "in the same 20 validation episodes, and the best 1 of 2" in card and "samples" not in card
    assert "arch=[8, 6]" in card and "StackCubeEasy" not in card
    for code in re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL):
        compile(code, "card", "exec")


def test_the_card_of_stacking_states_whose_definition_it_is(robot_repo):
    write_card(robot_repo, get_task("stackcube-easy"))
    card = (robot_repo / "README.md").read_text()
    assert "StackCubeEasy is our definition" in card and "at least 0.08 m apart" in card


def test_a_film_with_missing_files_is_refused(robot_repo, film):
    (film / "rollout.png").unlink()
    with pytest.raises(ValueError, match=r"`film_dir` must be a folder .* which lacks \['rollout.png'\]"):
        copy_film(film, robot_repo)
    assert not (robot_repo / "rollout.mp4").exists()


def test_widths_and_depths_that_fail_are_named():
    widths = {
        str(width): {"hidden_sizes": [width] * 2, "nnit": {"mean": mean}} for width, mean in ((8, 0.1), (64, 0.9))
    }
    assert what_fails({"widths": widths}) == ["Widths with a mean success below 50%: `[8, 8]` 10.0%."]
    depths = {str(depth): {"nnit": {"mean": mean}} for depth, mean in ((3, 0.9), (8, 0.4), (16, 0.0))}
    assert what_fails({"depths": depths}) == ["Depths with a mean success below 50%: 8 layers 40.0%, 16 layers 0.0%."]
