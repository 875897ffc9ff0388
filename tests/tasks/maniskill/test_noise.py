import numpy as np
import pytest

from nnit_diffusers.tasks.maniskill.noise import ActionNoise


STEPS = 50


def disturbances(seed, action=0.0):
    noise = ActionNoise(seed, 8)
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
