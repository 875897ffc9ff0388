"""What does not fit an environment is refused before anything is trained, by episode and row."""

import numpy as np
import pytest
from recorded_episodes import BOUNDS, ENDS, plain_arrays

from nnit_diffusers.tasks.simulation.recordings import check_recording, read_recording


def check(path, change, in_features=5, is_discrete=False):
    arrays = plain_arrays(ends=ENDS[0])
    change(arrays)
    np.savez(path, **arrays)
    bounds = ((), ()) if is_discrete else BOUNDS
    return check_recording(read_recording(path), in_features, 2, *bounds, is_discrete)


def setting(name, index, value):
    def change(arrays):
        arrays[name] = arrays[name].astype("f8")
        arrays[name][index] = value

    return change


def with_actions(actions):
    return lambda arrays: arrays.update(actions=np.asarray(actions))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("observations", (5, 3), np.nan), "'episode_1' has nan in feature 3 of the observation of row 1"),
        (setting("observations", (5, 3), 1e300), r"'episode_1' has 1e\+300 in feature 3 of the observation of row 1"),
        (setting("actions", (12, 1), np.inf), "'episode_2' has inf in feature 1 of the action of row 5"),
        (setting("actions", (4, 0), 3.0), "actions of -1 to 1 in feature 0, but episode 'episode_1' has 3 in row 0"),
        (setting("actions", (4, 0), -1.01), "'episode_1' has -1.01 in row 0"),
        (
            with_actions(np.zeros((13, 7))),
            "actions of 2 numbers, as the environment has, but episode 'episode_0' has 7",
        ),
        (lambda arrays: arrays.update(plain_arrays(), observations=np.zeros((13, 42))), "observations of 5 .* has 42"),
        (lambda a: a.update(observations=np.zeros((1, 5)), actions=np.zeros((1, 2)), episode_ends=[1]), "2 steps at"),
    ],
)
def test_what_does_not_fit_the_environment_is_refused_by_episode_and_row(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as refusal:
        check(tmp_path / "recording.npz", change)
    assert "recording.npz" in str(refusal.value) and "\n" not in str(refusal.value)


def test_actions_may_be_out_of_range_by_rounding(tmp_path):
    recording = check(tmp_path / "recording.npz", setting("actions", (4, 0), 1.0005))
    assert recording.actions.max() == np.float32(1.0005)
    assert recording.observations.dtype == recording.actions.dtype == np.float32


@pytest.mark.parametrize("shape", [(13,), (13, 1)])
def test_discrete_actions_become_one_hot(tmp_path, shape):
    choices = np.arange(13) % 2
    recording = check(tmp_path / "recording.npz", with_actions(choices.reshape(shape)), is_discrete=True)
    assert np.array_equal(recording.actions, np.eye(2, dtype="f4")[choices])
    again = check(tmp_path / "recording.npz", with_actions(recording.actions), is_discrete=True)
    assert np.array_equal(again.actions, recording.actions)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.arange(13), "integers of 0 to 1, but episode 'episode_0' has 2 in row 2"),
        (np.full(13, 0.5), "integers of 0 to 1, but episode 'episode_0' has 0.5 in row 0"),
        (np.full((13, 2), 0.5), "numbers or one-hot vectors, but episode 'episode_0' has other vectors"),
        (np.zeros((13, 3)), "one of 2 discrete actions in every step, but episode 'episode_0' has 3 numbers"),
    ],
)
def test_what_is_no_discrete_action_is_refused(tmp_path, actions, message):
    with pytest.raises(ValueError, match=message):
        check(tmp_path / "recording.npz", with_actions(actions), is_discrete=True)
