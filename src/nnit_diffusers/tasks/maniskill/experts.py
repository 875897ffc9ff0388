"""Scripted experts: functions from an observation to an action.

The experts are designed for imitation by small networks. They have no memory, so they have an action for any state
that a network reaches. Speeds are proportional to distances and clipped, so actions change gradually with the state;
only the fingers switch quickly. An action of `pd_joint_delta_pos` is a joint target at most 0.1 rad away. An arm at
rest covers about 40% of that in one step, so aiming directly at the goal approaches it smoothly.

Shape legend: N states, I features of an observation.
"""

from __future__ import annotations

import numpy as np

from .kinematics import joint_actions


# Gripper pointing down, fingers along y: the initial quaternion (w, x, y, z) of the robot `panda`.
_DOWN = np.array([0.0, 1.0, 0.0, 0.0])
# The same turned by 90 degrees: the initial orientation of `panda_wristcam`.
_DOWN_TURNED = np.array([0.0, 1.0, 1.0, 0.0]) / np.sqrt(2)


def _ramp(value_N: np.ndarray, zero: float, one: float) -> np.ndarray:
    """Linear from 0 at `zero` to 1 at `one`, constant beyond."""
    return np.clip((value_N - zero) / (one - zero), 0.0, 1.0)


def _limited(move_N3: np.ndarray, limit: float | np.ndarray) -> np.ndarray:
    """Vectors scaled down to length `limit` if longer."""
    length_N = np.linalg.norm(move_N3, axis=1)
    return move_N3 * np.minimum(1.0, limit / np.maximum(length_N, 1e-9))[:, None]


def _actions(
    observations_NI: np.ndarray,
    tcp_pose_N7: np.ndarray,
    move_N3: np.ndarray,
    grip_N: np.ndarray,
    orientation_4: np.ndarray,
) -> np.ndarray:
    """Actions `[N, 8]`: joint deltas that make the move, and the fingers, from -1 (closed) to 1 (open)."""
    arm_N7 = joint_actions(observations_NI[:, :7], tcp_pose_N7, move_N3, orientation_4)
    return np.concatenate([arm_N7, grip_N[:, None]], axis=1)


def push_cube(observations_NI: np.ndarray) -> np.ndarray:
    """PushCube-v1: move behind the cube, go down, push with closed fingers until the cube is in the goal region."""
    o = observations_NI
    tcp_pose, goal, cube = o[:, 18:25], o[:, 25:28], o[:, 28:31]
    tcp = tcp_pose[:, :3]
    aside = np.abs(tcp[:, 1] - cube[:, 1])
    height = _ramp(tcp[:, 2], 0.04, 0.07)
    # behind the cube? a low gripper counts as behind up to the cube, a high one only well behind it
    ahead = tcp[:, 0] - cube[:, 0] + 0.01 + 0.04 * height
    is_behind = (1 - _ramp(ahead, 0.0, 0.02)) * (1 - _ramp(aside, 0.015, 0.03))
    # target: behind and above the cube, then down, then forwards
    to_go = np.clip(goal[:, 0] - cube[:, 0] - 0.07, -0.02, 0.06)
    target = np.stack([cube[:, 0] - 0.07, cube[:, 1], 0.02 + 0.09 * (1 - is_behind)], axis=1)
    target[:, 0] += (1 - height) * is_behind * (0.04 + to_go)
    move = _limited(target - tcp, 0.08)
    return _actions(o, tcp_pose, move, np.full(len(o), -1.0), _DOWN)


def pick_cube(observations_NI: np.ndarray) -> np.ndarray:
    """PickCube-v1: move over the cube, go down, close the fingers, move straight to the goal."""
    o = observations_NI
    is_grasped, tcp_pose, to_cube, to_goal = o[:, 18], o[:, 19:26], o[:, 36:39], o[:, 39:42]
    aside = np.linalg.norm(to_cube[:, :2], axis=1)
    distance = np.linalg.norm(to_cube, axis=1)
    approach = to_cube.copy()
    approach[:, 2] += 0.09 * _ramp(aside, 0.01, 0.04)
    move = np.where(is_grasped[:, None] > 0.5, _limited(to_goal, 0.08), _limited(approach, 0.08))
    grip = 2 * _ramp(distance, 0.012, 0.02) - 1
    return _actions(o, tcp_pose, move, grip, _DOWN)


def stack_cube(observations_NI: np.ndarray) -> np.ndarray:
    """StackCube-v1: move over cube A, down, grasp, up, over cube B, down, release, up."""
    return _stack(observations_NI, _DOWN_TURNED)


def stack_cube_easy(observations_NI: np.ndarray) -> np.ndarray:
    """StackCubeEasy-v1: as [`stack_cube`], with the initial orientation of the robot `panda`."""
    return _stack(observations_NI, _DOWN)


def _stack(observations_NI: np.ndarray, orientation_4: np.ndarray) -> np.ndarray:
    o = observations_NI
    tcp_pose, to_a, a_to_b = o[:, 18:25], o[:, 39:42], o[:, 45:48]
    finger = o[:, 7:9].mean(axis=1)
    distance = np.linalg.norm(to_a, axis=1)
    # placed or held? A belongs 0.04 m above B
    off = np.linalg.norm(a_to_b[:, :2], axis=1)
    above = -a_to_b[:, 2] - 0.04
    is_placed = (off < 0.015) & (above < 0.004) & (above > -0.01)
    # a cube held by its edges keeps the fingers apart by half its diagonal
    is_held = (distance < 0.02) & (finger < 0.0285)

    # approach A from above and close the fingers
    grasp = to_a.copy()
    if orientation_4 is _DOWN_TURNED:
        # The fingers open along x: if B is too near for them, grasp A off centre.
        is_near = (1 - _ramp(off, 0.07, 0.09)) * _ramp(np.abs(a_to_b[:, 0]), 0.02, 0.05)
        grasp[:, 0] -= 0.01 * np.sign(a_to_b[:, 0]) * is_near
    aside = np.linalg.norm(grasp[:, :2], axis=1)
    grip = 2 * _ramp(np.linalg.norm(grasp, axis=1), 0.012, 0.02) - 1
    approach = grasp.copy()
    approach[:, 2] += 0.09 * _ramp(aside, 0.01, 0.04)

    # carry A above B, then down; near B, move sideways only if high enough not to knock B over
    carry = a_to_b.copy()
    carry[:, 2] = -above + 0.001 + 0.06 * _ramp(off, 0.006, 0.03)
    is_clear = np.maximum(_ramp(above, -0.02, 0.02), _ramp(off, 0.06, 0.1))
    carry[:, :2] *= np.maximum(is_clear, 1 - _ramp(off, 0.006, 0.02))[:, None]

    # leave upwards once the fingers are open
    leave = np.zeros_like(to_a)
    leave[:, 2] = 0.05 * _ramp(finger, 0.022, 0.03) * (1 - _ramp(-to_a[:, 2], 0.06, 0.1))

    # choose by state
    move = np.where(is_held[:, None], _limited(carry, 0.06), _limited(approach, 0.08))
    move = np.where(is_placed[:, None], leave, move)
    grip = np.where(is_placed, 1.0, np.where(is_held, -1.0, grip))
    return _actions(o, tcp_pose, move, grip, orientation_4)
