"""Every wrong use of an environment is an error of one line, before anything runs."""

import numpy as np
import pytest
import toy_environments  # noqa: F401  # registers the environments
from gymnasium import spaces

from nnit_diffusers.tasks.gymnasium import GymnasiumTask
from nnit_diffusers.tasks.simulation.contract import ContractError


def stays(observations):
    return np.zeros((len(observations), 1))


class WrongSizes(GymnasiumTask):
    in_features = 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GymnasiumTask("HalfCheeta-v5"), "'HalfCheeta-v5'; nearest: 'HalfCheetah-v5'"),
        (lambda: GymnasiumTask("Bad name!"), "an environment of Gymnasium, but received 'Bad name!'"),
        (lambda: GymnasiumTask("no_such_module:Foo-v0"), "module can be imported, but received 'no_such_module:Foo"),
        (lambda: GymnasiumTask(3), "`env_id` must be the name of an environment, but received 3"),
        (lambda: GymnasiumTask("NnitLine-v0", [1]), r"`env_kwargs` must be a dictionary .* received \[1\]"),
        (
            lambda: GymnasiumTask("NnitLine-v0", {"colour": 1}),
            "'NnitLine-v0' takes, but received {'colour': 1}.*colour",
        ),
        (lambda: GymnasiumTask("NnitEndless-v0"), "`max_episode_steps` for 'NnitEndless-v0', which has no time limit"),
        (lambda: GymnasiumTask("NnitLine-v0", {"reports": None}), "`teacher` or `teacher_return` must be given"),
        (lambda: GymnasiumTask("NnitLine-v0", {"reports": None}, success="info"), "does not report success"),
        (lambda: GymnasiumTask("NnitLine-v0", success=1.5), "above 0, at most 1, but received 1.5"),
        (lambda: GymnasiumTask("NnitLine-v0", success="yes"), "but received 'yes'"),
        (lambda: GymnasiumTask("NnitLine-v0", teacher=3), "`teacher` must be a callable, but received 3"),
        (lambda: GymnasiumTask("NnitLine-v0", teacher_return=float("nan")), "finite number, but received nan"),
        (lambda: GymnasiumTask("NnitLine-v0", noise_scale=-1), "`noise_scale` must be 0 to 1, but received -1"),
        (lambda: WrongSizes("NnitLine-v0"), "`in_features` of task 'nnitline-v0' must be 4.*received 5"),
    ],
)
def test_a_wrong_use_is_an_error_of_one_line(make, message):
    with pytest.raises(ContractError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), None, r"an image \[8, 8, 3\]"),
        (spaces.Dict({"camera": spaces.Box(0, 255, (8, 8), np.uint8)}), None, "an image .* as 'camera'"),
        (spaces.Tuple([spaces.Discrete(2)]), None, r"a space Tuple\(Discrete\(2\)\)"),
        (spaces.Dict({"text": spaces.Text(3)}), None, "a space Text.* as 'text'"),
        (None, spaces.MultiDiscrete([2, 2]), r"Box.*Discrete.*received MultiDiscrete\(\[2 2\]\)"),
        (None, spaces.Box(-1, 1, (2, 2)), "received Box"),
        (None, spaces.Box(0, 3, (2,), np.int64), "received Box.*int64"),
        (None, spaces.Dict({"arm": spaces.Box(-1, 1, (2,))}), "received Dict"),
    ],
)
def test_spaces_that_no_network_fits_are_refused(observation_space, action_space, message):
    kwargs = {"observation_space": observation_space, "action_space": action_space}
    with pytest.raises(ContractError, match=message):
        GymnasiumTask("NnitSpaces-v0", kwargs)


@pytest.mark.parametrize(
    ("env_id", "teacher", "message"),
    [
        (
            "NnitLine-v0",
            lambda observations: np.zeros(1),
            r"actions \[1, 1\] for observations \[1, 4\].* received \[1\]",
        ),
        ("NnitLine-v0", lambda observations: np.full((1, 1), np.nan), "must give finite numbers .*nan"),
        ("NnitChoices-v0", lambda observations: np.array([3]), "integers of 5 to 7 .* received"),
        ("NnitChoices-v0", lambda observations: np.array([5.5]), "integers"),
        ("NnitChoices-v0", lambda observations: np.zeros((1, 2)), r"\[1, 3\] or \[1\]"),
    ],
)
def test_a_teacher_that_does_not_fit_is_an_error_of_one_line(env_id, teacher, message):
    task = GymnasiumTask(env_id, teacher=teacher, teacher_return=1.0)
    with pytest.raises(ContractError, match=message) as raised:
        task.demonstrate([0], num_workers=0)
    assert "\n" not in str(raised.value)


def test_an_error_of_a_worker_has_no_traceback_of_the_worker():
    task = GymnasiumTask("NnitLine-v0", teacher=lambda observations: np.zeros(1))
    with pytest.raises(ContractError, match="`teacher` must give actions") as raised:
        task.demonstrate([0], num_workers=1)
    assert not getattr(raised.value, "__notes__", []) and raised.value.__suppress_context__
    task.close()


def test_only_collecting_needs_a_teacher():
    task = GymnasiumTask("NnitLine-v0")
    assert not task.can_label
    for collect in (lambda: task.demonstrate([0]), lambda: task.collect([stays]), lambda: task.teacher_return()):
        with pytest.raises(ContractError, match="`teacher` must be a callable .* in 'NnitLine-v0', but received None"):
            collect()
