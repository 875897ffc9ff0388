import numpy as np
import pytest

from nnit_diffusers.tasks.maniskill.kinematics import RADIANS_PER_ACTION, joint_actions, joint_frames, turn_between


REST = np.array([0.0, np.pi / 8, 0.0, -np.pi * 5 / 8, 0.0, np.pi * 3 / 4, np.pi / 4])
DOWN = np.array([0.0, 1.0, 0.0, 0.0])
FLANGE_TO_TCP = 0.107 + 0.1034


def postures(number=20, seed=0):
    return REST + 0.3 * np.random.default_rng(seed).standard_normal((number, 7))


def tcp(qpos_NJ):
    positions, axes, _ = joint_frames(qpos_NJ)
    return positions[:, 6] + FLANGE_TO_TCP * axes[:, 6]


def poses(qpos_NJ):
    """Poses of the tool centre point, with the gripper pointing down exactly."""
    return np.concatenate([tcp(qpos_NJ), np.broadcast_to(DOWN, (len(qpos_NJ), 4))], axis=1)


def test_axes_and_positions_give_the_gripper_motion_of_each_joint():
    qpos = postures()
    positions, axes, _ = joint_frames(qpos)
    for joint in range(7):
        nudged = qpos.copy()
        nudged[:, joint] += 1e-6
        moved = (tcp(nudged) - tcp(qpos)) / 1e-6
        np.testing.assert_allclose(np.cross(axes[:, joint], tcp(qpos) - positions[:, joint]), moved, atol=1e-5)


def test_small_moves_are_made_and_the_gripper_keeps_its_orientation():
    qpos = np.broadcast_to(REST, (6, 7))
    moves = 0.01 * np.concatenate([np.eye(3), -np.eye(3)])
    actions = joint_actions(qpos, poses(qpos), moves, DOWN)
    np.testing.assert_allclose(tcp(qpos + 0.1 * actions) - tcp(qpos), moves, atol=1.5e-3)
    _, axes, _ = joint_frames(qpos + 0.1 * actions)
    np.testing.assert_allclose(axes[:, 6], np.broadcast_to([0, 0, -1], (6, 3)), atol=0.01)


def test_the_redundant_joint_returns_to_the_rest_posture_while_the_gripper_stays():
    # the null space of the gripper's pose: motions of the joints that keep it
    positions, axes, _ = joint_frames(REST[None])
    linear = np.cross(axes, tcp(REST[None])[:, None] - positions)
    jacobian = np.concatenate([linear, axes], axis=-1)[0].T
    null = np.linalg.svd(jacobian)[2][-1]

    # start away from the rest posture, with the gripper where it is at rest
    qpos = np.stack([REST + turn * null for turn in (-0.2, 0.2)])
    start = tcp(qpos)
    before = np.abs(qpos - REST)[:, :6].max(axis=1)
    for _ in range(60):
        qpos = qpos + RADIANS_PER_ACTION * joint_actions(qpos, poses(qpos), np.zeros((2, 3)), DOWN)
    assert (np.abs(qpos - REST)[:, :6].max(axis=1) < 0.2 * before).all()
    assert np.linalg.norm(tcp(qpos) - start, axis=1).max() < 0.02


def test_large_moves_scale_all_joints_down_together():
    qpos = np.broadcast_to(REST, (2, 7))
    actions = joint_actions(qpos, poses(qpos), np.array([[0.05, 0.05, 0.05], [0.5, 0.5, 0.5]]), DOWN)
    assert np.abs(actions[1]).max() == pytest.approx(1.0)
    np.testing.assert_allclose(
        actions[1] / np.linalg.norm(actions[1]), actions[0] / np.linalg.norm(actions[0]), atol=1e-6
    )


def test_states_of_a_batch_are_independent():
    qpos = postures()
    moves = np.random.default_rng(1).standard_normal((20, 3)) * 0.1
    together = joint_actions(qpos, poses(qpos), moves, DOWN)
    alone = [joint_actions(qpos[i : i + 1], poses(qpos)[i : i + 1], moves[i : i + 1], DOWN)[0] for i in range(20)]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-12)


def test_the_turn_to_an_orientation_is_a_rotation_vector_for_both_signs_of_the_quaternion():
    half = 0.05
    about_z = np.array([np.cos(half), 0.0, 0.0, np.sin(half)])
    identity = np.array([[1.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(turn_between(identity, about_z), [[0, 0, 2 * half]], atol=1e-3)
    np.testing.assert_allclose(turn_between(-identity, about_z), [[0, 0, 2 * half]], atol=1e-3)
    np.testing.assert_allclose(turn_between(about_z[None], identity[0]), [[0, 0, -2 * half]], atol=1e-3)
    np.testing.assert_allclose(turn_between(DOWN[None], DOWN), np.zeros((1, 3)), atol=1e-12)
