"""The contract of a robot's policy is what ManiSkill itself does with observations and actions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nnit_diffusers import contract_of, get_task
from nnit_diffusers.contract import read_contract
from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.tasks.maniskill.environments import make_environment


ROOT = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.usefixtures("simulator"),
    # ManiSkill 3.0.1 logs so about scenes with a goal region, in this process
    pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning"),
]


def in_this_process(task):
    task._place(0)
    contract = contract_of(task)
    task.close()
    return contract


def test_the_published_robot_task_has_joints_rate_bounds_and_scale():
    contract = in_this_process(get_task("pickcube"))
    environment = contract.environment
    assert (environment.robot, environment.control_mode) == ("panda", "pd_joint_delta_pos")
    assert (environment.control_freq, environment.dt, environment.decimation) == (20, 0.05, 5)
    assert environment.env_kwargs["obs_mode"] == "state" and environment.max_episode_steps == 50
    assert sum(term.size for term in contract.observations) == 42
    positions, fingers = contract.observations[:2]
    assert positions.joint_names == tuple(f"panda_joint{index}" for index in range(1, 8)) and positions.units == "rad"
    assert fingers.joint_names == ("panda_finger_joint1", "panda_finger_joint2") and fingers.units == "m"
    arm, gripper = contract.actions
    assert (arm.name, arm.size, arm.scale, arm.unit_words) == ("arm", 7, (0.1,) * 7, "× 0.1 rad")
    assert (gripper.scale, gripper.offset, gripper.units) == ((0.025,), (0.015,), "m")
    assert contract.action_bounds == ((-1.0,) * 8, (1.0,) * 8)


def test_scale_offset_and_clip_give_what_the_controller_commands():
    """Joint targets of a step, from the contract alone, are those that ManiSkill sets."""
    contract = in_this_process(get_task("pickcube"))
    environment = make_environment("PickCube-v1")
    environment.reset(seed=0)
    simulation = environment.unwrapped
    before = simulation.agent.robot.get_qpos()[0, :7].clone()
    outputs = torch.tensor([[2.0, -0.5, 0.0, 0.3, -3.0, 1.0, 0.1, 0.4]])
    clipped = contract.clip(outputs)
    environment.step(outputs.numpy())
    controllers = simulation.agent.controller.controllers
    arm, gripper = contract.actions
    expected = torch.tensor(arm.scale) * clipped[0, :7] + torch.tensor(arm.offset)
    found = controllers["arm"]._target_qpos[0] - before
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    target = controllers["gripper"]._target_qpos[0, 0].item()
    assert target == pytest.approx(gripper.scale[0] * clipped[0, 7].item() + gripper.offset[0], abs=1e-6)
    environment.close()


def test_any_environment_names_its_observations_in_the_order_of_its_numbers():
    contract = in_this_process(ManiSkillTask("PullCube-v1", {"control_mode": "pd_joint_pos"}))
    environment = make_environment("PullCube-v1", control_mode="pd_joint_pos")
    flat, _ = environment.reset(seed=3)
    parts = environment.unwrapped.get_obs(unflattened=True)
    start = 0
    for term in contract.observations:
        group, key = term.name.split(".")
        assert torch.equal(flat[0, start : start + term.size], parts[group][key][0])
        start += term.size
    assert start == flat.shape[1] and contract.observations[0].name == "agent.qpos"
    low, high = contract.action_bounds
    space = environment.unwrapped.single_action_space
    assert np.array_equal(np.float32(low), space.low) and np.array_equal(np.float32(high), space.high)
    arm, gripper = contract.actions
    # joint positions are commanded as they are, and only the gripper is scaled
    assert (arm.scale, arm.units, gripper.scale) == ((), "rad", (0.025,))
    environment.close()


def test_a_controller_that_scales_in_its_own_way_has_no_scale():
    contract = in_this_process(ManiSkillTask("PullCube-v1", {"control_mode": "pd_ee_delta_pose"}))
    arm = contract.actions[0]
    assert (arm.action_type, arm.size, arm.scale, arm.units) == ("PDEEPoseController", 6, (), None)
    assert contract.environment.control_mode == "pd_ee_delta_pose" and len(contract.action_bounds[0]) == 7


@pytest.mark.parametrize("name", ["pickcube", "pushcube", "stackcube-easy"])
def test_published_contracts_are_those_of_the_environments(name):
    published, found = read_contract(ROOT / "nnit" / name), in_this_process(get_task(name))
    version = published.environment.library_version
    assert replace(found, environment=replace(found.environment, library_version=version)) == published
