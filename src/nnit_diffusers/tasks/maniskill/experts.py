"""Scripted experts: the right action in any state, as a function of the observation alone.

They are to be imitated by small networks, and are made for it: no memory, so that any state a network gets itself into
has an answer; speeds proportional to distances and clipped, so that the answer changes gradually; and only the fingers
switch quickly. An action of `pd_joint_delta_pos` is a target 0.1 rad away at most, of which an arm that stands still
covers about four tenths within a step, so that aiming at the goal itself approaches it smoothly.

Shape legend: N states, I features of an observation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .kinematics import joint_actions


# Pointing down, fingers along y: the quaternion (w, x, y, z) that an episode of robot `panda` begins with.
_DOWN = np.array([0.0, 1.0, 0.0, 0.0])
# The same turned by a quarter, as `panda_wristcam` begins.
_DOWN_TURNED = np.array([0.0, 1.0, 1.0, 0.0]) / np.sqrt(2)

Expert = Callable[[np.ndarray], np.ndarray]


def _ramp(value_N: np.ndarray, zero: float, one: float) -> np.ndarray:
    """0 at `zero`, 1 at `one`, straight between, constant beyond."""
    return np.clip((value_N - zero) / (one - zero), 0.0, 1.0)


def _limited(move_N3: np.ndarray, limit: float | np.ndarray) -> np.ndarray:
    """Shortened to a length, where longer."""
    length_N = np.linalg.norm(move_N3, axis=1)
    return move_N3 * np.minimum(1.0, limit / np.maximum(length_N, 1e-9))[:, None]


def _actions(
    observations_NI: np.ndarray,
    tcp_pose_N7: np.ndarray,
    move_N3: np.ndarray,
    grip_N: np.ndarray,
    orientation_4: np.ndarray,
) -> np.ndarray:
    """Actions `[N, 8]`: joints that make the move, and fingers from -1, closed, to 1, open."""
    arm_N7 = joint_actions(observations_NI[:, :7], tcp_pose_N7, move_N3, orientation_4)
    return np.concatenate([arm_N7, grip_N[:, None]], axis=1)


def push_cube(observations_NI: np.ndarray) -> np.ndarray:
    """PushCube-v1: behind the cube, down, and forwards with closed fingers until it lies in the goal region."""
    o = observations_NI
    tcp_pose, goal, cube = o[:, 18:25], o[:, 25:28], o[:, 28:31]
    tcp = tcp_pose[:, :3]
    aside = np.abs(tcp[:, 1] - cube[:, 1])
    height = _ramp(tcp[:, 2], 0.04, 0.07)
    # Once low it stays low up to the cube; while high it comes down only well behind it.
    ahead = tcp[:, 0] - cube[:, 0] + 0.01 + 0.04 * height
    is_behind = (1 - _ramp(ahead, 0.0, 0.02)) * (1 - _ramp(aside, 0.015, 0.03))
    to_go = np.clip(goal[:, 0] - cube[:, 0] - 0.07, -0.02, 0.06)
    target = np.stack([cube[:, 0] - 0.07, cube[:, 1], 0.02 + 0.09 * (1 - is_behind)], axis=1)
    target[:, 0] += (1 - height) * is_behind * (0.04 + to_go)
    move = _limited(target - tcp, 0.08)
    return _actions(o, tcp_pose, move, np.full(len(o), -1.0), _DOWN)


def pick_cube(observations_NI: np.ndarray) -> np.ndarray:
    """PickCube-v1: over the cube, down, close, and straight to the goal."""
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
    """StackCube-v1: over cube A, down, close, up, over cube B, down, open, and up."""
    return _stack(observations_NI, _DOWN_TURNED)


def stack_cube_easy(observations_NI: np.ndarray) -> np.ndarray:
    """StackCubeEasy-v1: as [`stack_cube`], for a robot whose gripper begins turned by a quarter less."""
    return _stack(observations_NI, _DOWN)


def _stack(observations_NI: np.ndarray, orientation_4: np.ndarray) -> np.ndarray:
    o = observations_NI
    tcp_pose, to_a, a_to_b = o[:, 18:25], o[:, 39:42], o[:, 45:48]
    finger = o[:, 7:9].mean(axis=1)
    distance = np.linalg.norm(to_a, axis=1)
    # A is to be 0.04 over B.
    off = np.linalg.norm(a_to_b[:, :2], axis=1)
    above = -a_to_b[:, 2] - 0.04
    is_placed = (off < 0.015) & (above < 0.004) & (above > -0.01)
    # A cube held by its edges keeps the fingers apart by half its diagonal.
    is_held = (distance < 0.02) & (finger < 0.0285)

    grasp = to_a.copy()
    if orientation_4 is _DOWN_TURNED:
        # The fingers open along x: where B is too near for them, take A off centre.
        is_near = (1 - _ramp(off, 0.07, 0.09)) * _ramp(np.abs(a_to_b[:, 0]), 0.02, 0.05)
        grasp[:, 0] -= 0.01 * np.sign(a_to_b[:, 0]) * is_near
    aside = np.linalg.norm(grasp[:, :2], axis=1)
    grip = 2 * _ramp(np.linalg.norm(grasp, axis=1), 0.012, 0.02) - 1
    approach = grasp.copy()
    approach[:, 2] += 0.09 * _ramp(aside, 0.01, 0.04)

    carry = a_to_b.copy()
    carry[:, 2] = -above + 0.001 + 0.06 * _ramp(off, 0.006, 0.03)
    # Near B, sideways only once it is high enough not to knock it over.
    is_clear = np.maximum(_ramp(above, -0.02, 0.02), _ramp(off, 0.06, 0.1))
    carry[:, :2] *= np.maximum(is_clear, 1 - _ramp(off, 0.006, 0.02))[:, None]

    leave = np.zeros_like(to_a)
    leave[:, 2] = 0.05 * _ramp(finger, 0.022, 0.03) * (1 - _ramp(-to_a[:, 2], 0.06, 0.1))

    move = np.where(is_held[:, None], _limited(carry, 0.06), _limited(approach, 0.08))
    move = np.where(is_placed[:, None], leave, move)
    grip = np.where(is_placed, 1.0, np.where(is_held, -1.0, grip))
    return _actions(o, tcp_pose, move, grip, orientation_4)
