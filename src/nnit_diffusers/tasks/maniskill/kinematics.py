"""Inverse kinematics of the Franka Panda: from a gripper motion to joint actions of `pd_joint_delta_pos`.

Shape legend: N states, J the 7 joints of the arm. Metres and radians, in the world frame of ManiSkill's table scenes.
The code is NumPy because worker processes call it between simulator steps, for one state at a time.
"""

from __future__ import annotations

import numpy as np


BASE_POSITION = np.array([-0.615, 0.0, 0.0])
# Joint motion for an action of 1.
RADIANS_PER_ACTION = 0.1

# Denavit-Hartenberg parameters in Craig's convention, from Franka's documentation: offset and twist before each joint,
# distance along it.
_OFFSET_J = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
_DISTANCE_J = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
_TWIST_J = (0.0, -np.pi / 2, np.pi / 2, np.pi / 2, -np.pi / 2, np.pi / 2, np.pi / 2)

# Initial posture of an episode, without noise and without the wrist. The redundant joint is pulled back to it.
_REST_QPOS = np.array([0.0, np.pi / 8, 0.0, -np.pi * 5 / 8, 0.0, np.pi * 3 / 4])
_REST_GAIN = 0.1
_DAMPING = 0.03
# Weight of the orientation: one radian counts as this many metres. Where both can't be reached, position has priority.
_METRES_PER_RADIAN = 0.3
_MAX_TURN = 0.2


def joint_frames(qpos_NJ: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forward kinematics: position and rotation axis of every joint.

    Parameters:
        qpos_NJ (`np.ndarray`): `[N, 7]`, angles of the arm's joints.

    Returns:
        `tuple[np.ndarray, np.ndarray, np.ndarray]`: Positions and axes of the joints, `[N, 7, 3]` each, and the
        rotation matrix of the flange, after the last joint, `[N, 3, 3]`.
    """
    rotation = np.broadcast_to(np.eye(3), (len(qpos_NJ), 3, 3))
    position = np.broadcast_to(BASE_POSITION, (len(qpos_NJ), 3))
    positions, axes = [], []
    for joint, (offset, distance, twist) in enumerate(zip(_OFFSET_J, _DISTANCE_J, _TWIST_J)):
        cosine, sine = np.cos(qpos_NJ[:, joint]), np.sin(qpos_NJ[:, joint])
        position = position + offset * rotation[:, :, 0]
        # the twist rotates y and z about x, then the joint rotates x and y about z
        x = rotation[:, :, 0]
        y = np.cos(twist) * rotation[:, :, 1] + np.sin(twist) * rotation[:, :, 2]
        z = np.cos(twist) * rotation[:, :, 2] - np.sin(twist) * rotation[:, :, 1]
        turned_x = cosine[:, None] * x + sine[:, None] * y
        turned_y = cosine[:, None] * y - sine[:, None] * x
        rotation = np.stack([turned_x, turned_y, z], axis=-1)
        position = position + distance * z
        positions.append(position)
        axes.append(z)
    return np.stack(positions, axis=1), np.stack(axes, axis=1), rotation


def turn_between(quaternion_N4: np.ndarray, target_4: np.ndarray) -> np.ndarray:
    """Rotation vectors `[N, 3]` from quaternions `[N, 4]` (w, x, y, z) to the target; exact to first order."""
    w, vector = quaternion_N4[:, :1], quaternion_N4[:, 1:]
    target_w, target_vector = target_4[0], target_4[1:]
    # target * conjugate(quaternion)
    turn_w = target_w * w + (vector @ target_vector)[:, None]
    turn_vector = w * target_vector - target_w * vector - np.cross(target_vector, vector)
    return 2 * np.where(turn_w < 0, -1, 1) * turn_vector


def joint_actions(
    qpos_NJ: np.ndarray, tcp_pose_N7: np.ndarray, move_N3: np.ndarray, orientation_4: np.ndarray
) -> np.ndarray:
    """Joint actions that move the gripper and turn it towards a fixed orientation: one damped least-squares step.

    If a joint would need an action beyond 1, all joints of the state are scaled down together.

    Parameters:
        qpos_NJ (`np.ndarray`): `[N, 7]`, angles of the arm's joints.
        tcp_pose_N7 (`np.ndarray`): `[N, 7]`, position and quaternion (w, x, y, z) of the tool centre point.
        move_N3 (`np.ndarray`): `[N, 3]`, desired motion of that point in metres.
        orientation_4 (`np.ndarray`): `[4]`, desired orientation as a quaternion.

    Returns:
        `np.ndarray`: `[N, 7]`, within -1…1.
    """
    # Jacobian of the gripper pose
    positions_NJ3, axes_NJ3, _ = joint_frames(qpos_NJ)
    linear_NJ3 = np.cross(axes_NJ3, tcp_pose_N7[:, None, :3] - positions_NJ3)
    jacobian_N6J = np.concatenate([linear_NJ3, _METRES_PER_RADIAN * axes_NJ3], axis=-1).swapaxes(1, 2)

    # desired motion, minus that of the pull to the rest posture: the pull then acts only in the null space
    turn_N3 = np.clip(turn_between(tcp_pose_N7[:, 3:], orientation_4), -_MAX_TURN, _MAX_TURN)
    rest_NJ = np.zeros_like(qpos_NJ)
    rest_NJ[:, :6] = _REST_GAIN * (_REST_QPOS - qpos_NJ[:, :6])
    wanted_N6 = np.concatenate([move_N3, _METRES_PER_RADIAN * turn_N3], axis=-1)
    missing_N6 = wanted_N6 - np.einsum("nij,nj->ni", jacobian_N6J, rest_NJ)

    # damped least squares, then scale to actions
    gram_N66 = jacobian_N6J @ jacobian_N6J.swapaxes(1, 2) + _DAMPING**2 * np.eye(6)
    solved_N6 = np.linalg.solve(gram_N66, missing_N6[..., None])[..., 0]
    actions_NJ = (rest_NJ + np.einsum("nij,ni->nj", jacobian_N6J, solved_N6)) / RADIANS_PER_ACTION
    return actions_NJ / np.maximum(np.abs(actions_NJ).max(axis=1, keepdims=True), 1.0)
