import json

import film_rollouts
import numpy as np
import pytest
from film_rollouts import Arguments, Clip, check_arguments, first_failures, grid_frames
from matplotlib.image import imread

from nnit_diffusers import get_task
from nnit_diffusers.tasks.simulation.rollouts import Episode


def episode(seed, success):
    return Episode(seed, success, success, 20.0)


def clip(first_success=None, num_steps=3):
    """Frames that get lighter, with the task solved from frame `first_success`."""
    frames = [np.full((32, 32, 3), 40 * step, np.uint8) for step in range(num_steps + 1)]
    successes = [first_success is not None and step >= first_success for step in range(num_steps + 1)]
    return Clip((128, 256), "held_out_combinations", 7, episode(7, any(successes)), frames, successes)


def test_a_caption_has_the_outcome_from_the_frame_in_which_it_is_known():
    assert clip(first_success=2).caption(1)[0][1] == "episode 7: step 1"
    assert clip(first_success=2).caption(2)[0][1] == "episode 7: success at step 2"
    assert clip().caption(2)[0][1] == "episode 7: step 2"
    assert clip().caption(3)[0][1] == "episode 7: failure"
    colours = {film.caption(3)[1] for film in (clip(), clip(first_success=2))}
    assert colours == {film_rollouts.SUCCESS, film_rollouts.FAILURE}


def test_a_video_shows_all_clips_side_by_side_and_holds_the_last_frame():
    frames = grid_frames([[clip(), clip(first_success=1), clip(), None]], 32, ["no further failure", "in 0 episodes"])
    assert len(frames) == 4 + film_rollouts.HELD_FRAMES
    assert {frame.shape for frame in frames} == {(2 * (32 + film_rollouts.BAND_HEIGHT), 3 * 32, 3)}
    assert (frames[2][film_rollouts.BAND_HEIGHT : film_rollouts.BAND_HEIGHT + 32, :96] == 80).all()
    assert (frames[-1] == frames[3]).all()


def test_failures_are_the_first_among_episodes_not_shown():
    outcomes = [[episode(0, False), episode(1, True), episode(2, False)], [episode(seed, False) for seed in range(3)]]
    assert first_failures(outcomes, 1) == [(1, 1)]
    assert first_failures(outcomes, 2) == [(0, 2), (1, 2)]
    assert first_failures([[episode(0, False), episode(1, True)]], 1) == []


def test_a_strip_has_a_row_for_each_clip():
    figure = film_rollouts.draw_strip([clip(first_success=2), clip()])
    assert len(figure.axes) == 2 * film_rollouts.NUM_MOMENTS
    titles = [block.get_suptitle() for block in figure.subfigs]
    assert titles == [
        "[128, 256] held-out combination: success at step 2",
        "[128, 256] held-out combination: failure",
    ]


def test_the_default_architectures_cover_the_regions():
    regions = get_task("pickcube").regions
    shown = [regions.region_of([int(width) for width in name.split("-")]) for name in Arguments("").architectures]
    assert shown == ["seen", "held_out_combinations", "held_out_widths", "deeper", "seen"]


@pytest.mark.parametrize(
    ("task", "wrong", "named"),
    [
        ("digits", {}, "`task` must be a robot task, but received 'digits'"),
        ("pickcube", {"frame_size": 100}, "`frame_size` must be a multiple of 16, but received 100"),
        (
            "pickcube",
            {"num_shown": 3, "num_searched": 2},
            "`num_shown` must be 1 to `num_searched`, 2, but received 3",
        ),
    ],
)
def test_invalid_arguments_are_refused(task, wrong, named):
    with pytest.raises(ValueError, match=named):
        check_arguments(Arguments("", task=task, **wrong), get_task(task))


def test_untrained_policies_are_filmed_with_their_failures(robot_pipeline_folder, simulator, tmp_path):
    arguments = Arguments(
        str(tmp_path / "film"),
        pretrained_model_name_or_path=str(robot_pipeline_folder),
        architectures=("16", "128-256"),
        num_inference_steps=1,
        num_shown=1,
        num_searched=2,
        frame_size=64,
    )
    film_rollouts.main(arguments)
    report = json.loads((tmp_path / "film" / "rollout.json").read_text())
    assert [row["region"] for row in report["policies"]] == ["seen", "held_out_combinations"]
    assert [row["num_episodes"] for row in report["policies"]] == [2, 2]
    num_failures = sum(row["num_episodes"] - row["num_successes"] for row in report["policies"])
    assert f"{num_failures} of all 4 episodes failed" in report["caption"]
    (clips,) = report["video"]
    assert [shown["episode"] for shown in clips[:2]] == [0, 0]
    assert clips[2]["episode"] == 1 and not clips[2]["success_once"]
    assert {"command", "git_commit", "versions"} <= set(report)
    assert (tmp_path / "film" / "rollout.mp4").read_bytes()[4:8] == b"ftyp"
    assert imread(tmp_path / "film" / "rollout.png").std() > 0.05
