"""Tasks of Meta-World: what their environments expect and give, their experts, and every wrong use."""

import json
import pickle
import subprocess
import sys
import warnings
from importlib import metadata

import numpy as np
import pytest
import torch
from metaworld import env_dict

from nnit_diffusers import MLP
from nnit_diffusers.tasks.contracts import contract_of
from nnit_diffusers.tasks.gymnasium import GymnasiumTask
from nnit_diffusers.tasks.metaworld import ENVIRONMENTS, MT10, MetaWorldTask
from nnit_diffusers.tasks.metaworld.environments import make_metaworld
from nnit_diffusers.tasks.metaworld.experts import MetaWorldExpert
from nnit_diffusers.tasks.simulation.contract import ContractError
from nnit_diffusers.tasks.simulation.environment import EnvironmentSpec
from nnit_diffusers.tasks.simulation.rollouts import EpisodeJob
from nnit_diffusers.tasks.simulators import (
    _check_untrusted,
    find_library,
    make_simulator_task,
    simulator_task_from_spec,
)


SPEC = {
    "kind": "simulator",
    "library": "metaworld",
    "env_id": "reach-v3",
    "env_kwargs": {"max_episode_steps": 30},
    "success": "info",
    "teacher_return": None,
    "grid": {"min_width": 8, "max_width": 32, "min_depth": 1, "max_depth": 2},
    "name": "my-reach",
}


@pytest.fixture(scope="module")
def drawer():
    task = MetaWorldTask("drawer-open")
    yield task
    task.close()


def positions(contract):
    """Slice of every term of an observation, by name."""
    stops = np.cumsum([term.size for term in contract.observations])
    return {term.name: slice(stop - term.size, stop) for term, stop in zip(contract.observations, stops, strict=True)}


def test_names_are_those_of_meta_world():
    assert set(ENVIRONMENTS) == set(env_dict.ALL_V3_ENVIRONMENTS) and len(ENVIRONMENTS) == 50
    assert tuple(env_dict.MT10_V3) == MT10


def test_a_task_has_its_name_description_and_grid(drawer):
    assert (drawer.name, drawer.env_id, drawer.title) == ("drawer-open", "drawer-open-v3", "Meta-World drawer-open")
    assert drawer.description == "Open a drawer."
    assert (drawer.in_features, drawer.out_features, drawer.contract.max_episode_steps) == (39, 4, 500)
    assert drawer.grid == {"min_width": 32, "max_width": 256, "min_depth": 1, "max_depth": 6}
    assert not drawer.standardises_actions and not drawer.is_discrete and drawer.required_part is None
    assert make_simulator_task("drawer-open", max_width=64).grid["max_width"] == 64


def test_the_contract_describes_every_number_of_observations_and_actions(drawer):
    contract = contract_of(drawer)
    environment = contract.environment
    assert (environment.library, environment.env_id) == ("metaworld", "drawer-open-v3")
    assert environment.library_version == metadata.version("metaworld")
    assert (environment.control_freq, environment.decimation, environment.max_episode_steps) == (80, 5, 500)
    where = positions(contract)
    made = make_metaworld(drawer.environment_spec, False)
    simulation = made.environment
    first = made.reset([3])[0].numpy()
    assert first[where["gripper opening"]] == 1.0
    moved, closing = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    target = simulation.data.mocap_pos[0].copy()
    second = made.step(moved)[0][0].numpy()
    # an output of 1 moves the target of the hand by its scale
    hand, effort = contract.actions
    assert simulation.data.mocap_pos[0, 0] - target[0] == pytest.approx(hand.scale[0], abs=1e-6)
    np.testing.assert_allclose(second[where["gripper position"]], simulation.get_endeff_pos(), atol=1e-6)
    np.testing.assert_allclose(second[where["object 1 position"]], simulation._get_pos_objects(), atol=1e-6)
    np.testing.assert_allclose(second[where["goal position"]], simulation._target_pos, atol=1e-6)
    assert not second[where["object 2 position"]].any()
    names = [name for name in where if f"previous {name}" in where]
    assert len(names) == 6
    for name in names:
        np.testing.assert_array_equal(second[where[f"previous {name}"]], first[where[name]])
    for _ in range(10):
        third = made.step(closing)[0][0].numpy()
    assert third[where["gripper opening"]] < 0.8 and "1 closes" in effort.description
    assert contract.action_bounds == ((-1.0,) * 4, (1.0,) * 4)
    made.close()


@pytest.mark.parametrize("env_id", ["reach-v3", "drawer-open-v3"])
def test_an_episode_depends_on_its_seed_alone(env_id):
    spec = EnvironmentSpec("metaworld", env_id, {"max_episode_steps": 60})
    teacher = MetaWorldExpert(env_id)

    def episode(environment, seed):
        seen, rewards = [environment.reset([seed])], []
        for _ in range(60):
            observation, reward, _, _ = environment.step(torch.from_numpy(teacher(seen[-1].numpy())))
            seen.append(observation)
            rewards.append(reward)
        return torch.cat(seen), torch.cat(rewards)

    used = make_metaworld(spec, False)
    others = [episode(used, seed)[0] for seed in (2**30 - 1, 0)]
    for alone, after in zip(episode(make_metaworld(spec, False), 5), episode(used, 5), strict=True):
        torch.testing.assert_close(alone, after, rtol=0, atol=0)
    assert not any(torch.equal(other[0], after[0]) for other in others)


def test_every_episode_has_a_new_scene_and_splits_have_none_in_common():
    task = MetaWorldTask("reach", {"max_episode_steps": 1})
    episodes = [
        episode
        for split in ("train", "dagger", "validation", "test")
        for episode in task.demonstrate(range(5), split=split, noise=False, num_workers=0)
    ]
    goals = {tuple(episode.observations[0, 36:]) for episode in episodes}
    assert len(goals) == 20
    task.close()


def test_the_expert_succeeds_and_a_network_that_stays_does_not(drawer):
    episodes = drawer.demonstrate(range(3), split="validation", noise=False, num_workers=0)
    assert [episode.success_once for episode in episodes] == [True] * 3
    assert episodes[0].observations.shape == (500, 39) and episodes[0].labels.shape == (500, 4)
    assert max(abs(episode.labels).max() for episode in episodes) <= 1
    (score,) = drawer.score([lambda observations: torch.zeros(1, 4)], num_episodes=1, num_workers=0)
    assert score.num_successes == 0 and set(score.metrics) == {"success_at_end", "mean_return"}


def test_a_success_counts_within_the_time_limit_alone(drawer):
    job = EpisodeJob(5, record=True, stop_at_success=True)
    (episode,) = drawer.run([job], num_workers=0)
    num_steps = len(episode.observations)
    assert episode.success_once and 20 < num_steps < 200
    for limit, is_success in ((num_steps, True), (num_steps - 1, False)):
        task = MetaWorldTask("drawer-open", {"max_episode_steps": limit})
        (limited,) = task.run([EpisodeJob(5, record=True)], num_workers=0)
        assert (limited.success_once, len(limited.observations)) == (is_success, limit)
        assert contract_of(task).environment.max_episode_steps == limit
        task.close()


def test_an_episode_may_be_longer_than_the_official_limit():
    environment = make_metaworld(EnvironmentSpec("metaworld", "reach-v3", {"max_episode_steps": 502}), False)
    environment.reset([0])
    ends = [environment.step(torch.zeros(1, 4))[3] for _ in range(502)]
    assert ends == [False] * 501 + [True]


def test_results_are_the_same_in_a_worker_and_here():
    task = MetaWorldTask("reach", {"max_episode_steps": 20})
    networks = [MLP(39, [8], 4)]
    scores = [task.score(networks, num_episodes=2, num_workers=number)[0] for number in (1, 0)]
    assert scores[0] == scores[1]
    here, there = (task.demonstrate([0, 3], num_workers=number) for number in (0, 1))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.observations, other.observations)
    task.close()


def test_the_expert_is_clipped_takes_many_observations_and_can_be_pickled(drawer):
    (episode,) = drawer.demonstrate([0], noise=False, num_workers=0)
    expert = drawer.teacher
    observations = episode.observations[:50].astype(np.float64)
    actions = expert(observations)
    np.testing.assert_allclose(actions, episode.labels[:50], atol=1e-6)
    again = pickle.loads(pickle.dumps(expert))
    np.testing.assert_array_equal(again(observations), actions)
    assert actions.shape == (50, 4)
    far = observations[:1].copy()
    far[:, 4:7] += 10.0
    np.testing.assert_array_equal(expert(far), [[1.0, 1.0, 1.0, -1.0]])
    assert repr(again) == "MetaWorldExpert('drawer-open-v3')"


def test_only_the_experts_own_warning_is_silenced():
    expert = MetaWorldExpert("reach")
    far = np.zeros((1, 39))
    far[:, 36:] = 10.0
    with pytest.warns() as caught:
        warnings.simplefilter("always")
        expert(far)
        warnings.warn("Constant(s) may be too high here as well", stacklevel=1)
    assert [str(one.message) for one in caught] == ["Constant(s) may be too high here as well"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MetaWorldTask("drawer-opn"),
            "environment of Meta-World, but received 'drawer-opn'; nearest: 'drawer",
        ),
        (lambda: MetaWorldTask("drawer-open-v2"), "'drawer-open-v2'; nearest: 'drawer-open-v3'"),
        (lambda: MetaWorldTask(3), "`env_id` must be the name of an environment, but received 3"),
        (lambda: MetaWorldTask("reach", [1]), r"`env_kwargs` must be a dictionary .* received \[1\]"),
        (lambda: MetaWorldTask("reach", {"camera_id": 1}), r"`max_episode_steps` for 'reach-v3', .*\['camera_id'\]"),
        (lambda: MetaWorldTask("reach", {"max_episode_steps": 0}), "`max_episode_steps` must be .* received 0"),
        (lambda: MetaWorldTask("reach", {"max_episode_steps": "9"}), "`max_episode_steps` must be .* received '9'"),
        (lambda: MetaWorldTask("reach", teacher=3), "`teacher` must be a callable, but received 3"),
        (lambda: MetaWorldExpert("reach-v1"), "environment of Meta-World, but received 'reach-v1'"),
        (lambda: find_library("drawer-opn-v3"), "Gymnasium, Meta-World or ManiSkill.*nearest: 'drawer-open-v3'"),
        (lambda: simulator_task_from_spec({**SPEC, "env_id": "CartPole-v1"}), "of Meta-World, but .* 'CartPole-v1'"),
        (lambda: _check_untrusted("metaworld", "CartPole-v1", {}), "of Meta-World, but .* 'CartPole-v1'"),
        (lambda: simulator_task_from_spec({**SPEC, "env_id": "os:reach-v3"}), "`env_id` must be a name"),
        (lambda: simulator_task_from_spec({**SPEC, "library": "gymnasium"}), "an environment of Gymnasium"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # ManiSkill, which is searched last, warns when it is imported
def test_a_wrong_use_is_an_error_of_one_line(make, message):
    with pytest.raises(ContractError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld", None)
    for use in (lambda: MetaWorldTask("reach"), lambda: MetaWorldExpert("reach")(np.zeros((1, 39)))):
        with pytest.raises(ImportError, match=r"pip install nnit-diffusers\[metaworld\]"):
            use()


def test_a_task_is_made_again_from_its_json_with_its_expert():
    task = simulator_task_from_spec(json.loads(json.dumps(SPEC)))
    assert task.spec() == SPEC and task.can_label and task.teacher.env_id == "reach-v3"
    assert simulator_task_from_spec({**SPEC, "env_id": "reach"}).spec()["env_id"] == "reach-v3"
    with pytest.raises(ContractError, match=r"must have no argument"):
        simulator_task_from_spec({**SPEC, "env_kwargs": {"render_mode": "human"}})


def test_nothing_is_imported_before_an_environment_is_made():
    code = (
        "import sys; from nnit_diffusers.tasks.simulators import find_library\n"
        "print(find_library('drawer-open'), find_library('drawer-open-v3'), find_library('CartPole-v1'))\n"
        "print([name in sys.modules for name in ('metaworld', 'mujoco', 'mani_skill')])"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == ["metaworld metaworld gymnasium", "[False, False, False]"]


def test_a_name_that_someone_registered_in_gymnasium_stays_theirs():
    import gymnasium

    gymnasium.register("push-v3", gymnasium.spec("Pendulum-v1").entry_point, max_episode_steps=5)
    try:
        assert find_library("push-v3") == "gymnasium"
        assert isinstance(make_simulator_task("push-v3", teacher_return=-1.0), GymnasiumTask)
    finally:
        gymnasium.registry.pop("push-v3")
    assert find_library("push-v3") == "metaworld"
