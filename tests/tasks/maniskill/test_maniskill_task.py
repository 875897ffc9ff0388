"""Tasks in environments of ManiSkill that are no task of this package, by name and arguments alone."""

import numpy as np
import pytest
import torch

from nnit_diffusers import MLP, get_task
from nnit_diffusers.tasks.maniskill import ManiSkillTask, NoVulkanDeviceError
from nnit_diffusers.tasks.simulation.contract import ContractError
from nnit_diffusers.tasks.simulators import find_library, simulator_task_from_spec


pytestmark = [
    pytest.mark.usefixtures("simulator"),
    # ManiSkill 3.0.1 warns with a method of `logging` that Python has deprecated.
    pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def holding():
    """A robot whose joints are told their positions, and a teacher that keeps them where they are."""

    def teacher(observations):
        return np.concatenate([observations[:, :7], np.ones((len(observations), 1))], axis=1)

    return ManiSkillTask("PullCube-v1", {"control_mode": "pd_joint_pos", "max_episode_steps": 12}, teacher=teacher)


def test_sizes_bounds_and_limit_are_those_of_the_environment_and_a_lambda_may_teach(holding):
    contract = holding.contract
    (process_id,) = holding.pool.process_ids
    assert (holding.in_features, holding.out_features, contract.max_episode_steps) == (35, 8, 12)
    assert (contract.control_mode, contract.reports_success) == ("pd_joint_pos", True)
    assert contract.action_high[5] == pytest.approx(3.7525) and holding.standardises_actions
    assert (holding.name, holding.regions.max_width) == ("pullcube-v1", 128)
    # held with noise and without, in the worker that was kept
    (episode,) = holding.demonstrate([0], noise=False, num_workers=1)
    assert holding.pool.process_ids == [process_id]
    assert episode.observations.shape == (12, 35)
    assert np.abs(episode.observations[-1, :7] - episode.observations[0, :7]).max() < 0.05
    assert np.abs(episode.labels).max() > 1
    holding.close()


def test_positions_beyond_1_are_executed_and_not_clipped_to_unit_actions(holding):
    (score,) = holding.score([lambda o: torch.cat([o[:, :7], torch.ones(1, 1)], dim=1)], num_episodes=1, num_workers=0)
    assert set(score.metrics) == {"success_at_end", "mean_return"}
    spec = holding.spec()
    again = simulator_task_from_spec(spec)
    assert again.spec() == spec and again.teacher is None
    assert again.score([MLP(35, [4], 8)], num_episodes=1, num_workers=0)[0].num_episodes == 1
    again.close()
    holding.close()


def test_a_subclass_may_declare_everything_and_its_sizes_are_checked():
    class Pull(ManiSkillTask):
        env_id = "PullCube-v1"
        env_kwargs = {"reward_mode": "sparse"}
        in_features = 42
        expert = staticmethod(lambda observations: observations[:, :8])

    task = Pull()
    assert (task.name, task.environment_spec.env_kwargs, task.can_label) == (
        "pullcube-v1",
        {"reward_mode": "sparse"},
        True,
    )
    with pytest.raises(ContractError, match="`in_features` of task 'pullcube-v1' must be 35, .*received 42"):
        task.score([MLP(42, [4], 8)], num_episodes=1, num_workers=0)


def test_tasks_of_this_package_need_no_simulator_for_their_sizes_bounds_and_success():
    task = get_task("pickcube")
    assert (task.in_features, task.out_features, task.required_part, task.standardises_actions) == (42, 8, None, False)
    assert [bound.tolist() for bound in task.action_bounds] == [[-1.0] * 8, [1.0] * 8]
    assert task.regions.max_width == 256
    assert "contract" not in vars(task) and task.pool.process_ids == []


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "message"),
    [
        ("PullCub-v1", {}, "an environment of ManiSkill, but received 'PullCub-v1'; nearest: 'PullCube-v1'"),
        ("CartPole-v1", {}, "but 'CartPole-v1' is one of Gymnasium"),
        (
            "PullCube-v1",
            {"control_mode": "pd"},
            r"`control_mode` .* must be one of \['pd_joint_delta_pos'.* received 'pd'",
        ),
        ("PullCube-v1", {"obs_mode": "rgb"}, r"`obs_mode` .* one of \['state'\], but received 'rgb'"),
        ("PullCube-v1", {"reward_mode": "best"}, "`reward_mode` .* one of .*'sparse'.*, but received 'best'"),
        ("PullCube-v1", {"colour": 1}, "'PullCube-v1' takes, but received {'colour': 1}.*'colour'"),
        ("PullCube-v1", {"robot_uids": "r2d2"}, "'PullCube-v1' takes, but received {'robot_uids': 'r2d2'}.*r2d2"),
        ("MS-HopperHop-v1", {"max_episode_steps": 5}, "`teacher` or `teacher_return` must be given"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_use_is_an_error_of_one_line(env_id, env_kwargs, message):
    task = ManiSkillTask(env_id, env_kwargs)
    with pytest.raises(ContractError, match=message) as raised:
        task.score([MLP(35, [4], 8)], num_episodes=1, num_workers=0)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ManiSkillTask(), "`env_id` must be the name of an environment, but received ''"),
        (lambda: ManiSkillTask("PullCube-v1", {"num_envs": 2}), r"must not have \['num_envs'\]"),
        (lambda: ManiSkillTask("PullCube-v1", sim_backend="gpu"), "`sim_backend` must be .* received 'gpu'"),
    ],
)
def test_arguments_are_checked_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_missing_vulkan_device_is_an_error_of_the_users_machine():
    assert issubclass(NoVulkanDeviceError, OSError) and "Vulkan" in str(NoVulkanDeviceError())


def test_the_library_of_an_environment_is_found_by_its_name():
    assert (find_library("HalfCheetah-v5"), find_library("PullCube-v1")) == ("gymnasium", "maniskill")
    with pytest.raises(
        ContractError, match="Gymnasium, Meta-World or ManiSkill, but received 'PullCub-v1'; nearest: 'PullCube-v1"
    ):
        find_library("PullCub-v1")


def test_an_environment_that_a_test_registers_runs_in_workers_and_needs_a_limit():
    from mani_skill.envs.tasks.tabletop.pull_cube import PullCubeEnv
    from mani_skill.utils.registration import REGISTERED_ENVS, register_env

    class FreePullCube(PullCubeEnv):
        pass

    if "NnitPullCube-v0" not in REGISTERED_ENVS:
        register_env("NnitPullCube-v0")(FreePullCube)
    with pytest.raises(ContractError, match="`max_episode_steps` for 'NnitPullCube-v0', which has no time limit"):
        ManiSkillTask("NnitPullCube-v0").score([MLP(35, [4], 8)], num_workers=0)
    task = ManiSkillTask("NnitPullCube-v0", {"control_mode": "pd_ee_delta_pos", "max_episode_steps": 3})
    assert (task.in_features, task.out_features, task.contract.max_episode_steps) == (35, 4, 3)
    assert len(task.pool.process_ids) == 1
    task.close()
