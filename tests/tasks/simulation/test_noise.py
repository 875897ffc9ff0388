import numpy as np
import pytest

from nnit_diffusers.tasks.simulation.contract import Contract
from nnit_diffusers.tasks.simulation.noise import ActionNoise, ChoiceNoise, noise_scales


STEPS = 50


def disturbances(seed, action=0.0):
    noise = ActionNoise(seed, -np.ones(8), np.ones(8))
    return np.stack([noise(np.full(8, action)) - action for _ in range(STEPS)])


def test_the_seed_determines_the_noise():
    for seed in range(10):
        assert np.array_equal(disturbances(seed), disturbances(seed))
    assert len({disturbances(seed).tobytes() for seed in range(40)}) > 20


def test_a_quarter_of_the_episodes_has_no_noise_and_another_part_only_bursts():
    all_steps = np.stack([disturbances(seed) for seed in range(800)])
    is_disturbed = np.abs(all_steps).max(axis=2) > 0
    # Without noise: a quarter. Of the others, a quarter has deviation 0, and no burst with probability 0.97 ** 50.
    assert np.mean(~is_disturbed.any(axis=1)) == pytest.approx(0.25 + 0.75 * 0.25 * 0.97**STEPS, abs=0.05)
    assert 0 < np.mean(is_disturbed.any(axis=1) & ~is_disturbed.all(axis=1)) < 0.25


def test_noise_is_correlated_in_time_with_a_random_deviation():
    # Episodes with noise in every step and no large values have no bursts.
    steps = [disturbances(seed) for seed in range(800)]
    noisy = np.stack([each for each in steps if (each != 0).all() and np.abs(each).max() < 0.9])
    deviations = noisy.std(axis=(1, 2))
    assert {round(value, 2) for value in np.quantile(deviations, [0.1])} <= {0.13, 0.14, 0.15, 0.16}
    correlation = np.mean(noisy[:, 1:] * noisy[:, :-1]) / np.mean(noisy**2)
    assert correlation == pytest.approx(0.7, abs=0.05)


def test_executed_actions_stay_in_range():
    for seed in range(50):
        executed = 0.9 + disturbances(seed, action=0.9)
        assert np.abs(executed).max() <= 1


def test_noise_is_proportional_to_the_bounds_and_stays_within_them():
    low, high = np.array([-4.0, 0.0, -np.inf]), np.array([4.0, 1.0, np.inf])
    for seed in range(60):
        noise, unit = ActionNoise(seed, low, high), ActionNoise(seed, -np.ones(3), np.ones(3))
        for _ in range(STEPS):
            executed, of_unit = noise(np.array([0.0, 0.5, 0.0])), unit(np.zeros(3))
            assert (executed >= low).all() and (executed <= high).all()
            # the same random numbers, in units of half the distance of the bounds; without bounds as for -1 to 1
            assert np.allclose(executed[:2], np.clip([4.0, 0.5] * of_unit[:2] + [0.0, 0.5], low[:2], high[:2]))


def test_noise_without_bounds_is_not_clipped():
    wide = [ActionNoise(seed, np.full(1, -np.inf), np.full(1, np.inf))(np.full(1, 50.0)) for seed in range(40)]
    assert max(value.item() for value in wide) > 50


def test_a_small_scale_keeps_all_noise_small():
    for seed in range(40):
        noise = ActionNoise(seed, -np.ones(8), np.ones(8), scale=0.1)
        assert max(np.abs(noise(np.zeros(8))).max() for _ in range(STEPS)) < 0.3


def test_some_choices_are_replaced_in_three_quarters_of_the_episodes():
    choices = []
    for seed in range(400):
        noise = ChoiceNoise(seed, 4)
        choices.append([int(noise(np.asarray(2))) for _ in range(STEPS)])
    is_replaced = np.array(choices) != 2
    assert set(np.unique(choices)) == {0, 1, 2, 3}
    assert is_replaced.mean() == pytest.approx(0.75 * 0.1 * 0.75, rel=0.15)
    assert 0.2 < (~is_replaced.any(axis=1)).mean() < 0.35


def test_noise_is_two_steps_of_the_teacher_where_actions_are_positions():
    contract = Contract("Toy-v0", (), 3, (-3.0, -3.0, -np.inf), (3.0, 3.0, np.inf), False, 50, True)
    # joints that move by 0.03 a step, not at all, and by 2
    steps = np.arange(20.0)[:, None] * [0.03, 0.0, 2.0]
    scales = noise_scales([steps, steps[:5]], contract)
    assert np.allclose(scales, [2 * 0.03 / 3, 0.0, 1.0])
    # the noise that is executed is of that size, and a joint that never moves gets none
    noises = [ActionNoise(seed, np.array([-3.0, -3.0]), np.array([3.0, 3.0]), scales[:2]) for seed in range(200)]
    moved = np.stack([[noise(np.zeros(2)) for _ in range(STEPS)] for noise in noises])
    assert (moved[..., 1] == 0).all() and 0.01 < moved[..., 0].std() < 0.06
