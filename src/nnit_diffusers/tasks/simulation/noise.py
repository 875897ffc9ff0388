"""Noise on the teacher's actions while it is recorded, so that demonstrations show how to recover."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .contract import Contract


_SHARE_UNDISTURBED = 0.25
_DEVIATIONS = (0.0, 0.15, 0.3, 0.5)
_CORRELATION = 0.7
_BURST_PROBABILITY = 0.03
_BURST_STEPS = (2, 4)
_RANDOM_CHOICE_PROBABILITY = 0.1
_TEACHER_STEPS = 2.0


Scale = float | tuple[float, ...]
"""Factor of the noise on all actions, or on each."""


def noise_for(contract: Contract, seed: int, scale: Scale = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """The noise of one episode, a function from the action of a step to the one to execute in its place."""
    if contract.is_discrete:
        return ChoiceNoise(seed, contract.out_features, float(np.max(scale)))
    return ActionNoise(seed, np.array(contract.action_low), np.array(contract.action_high), scale)


class ActionNoise:
    """Adds noise to the actions of one episode, determined by the episode's seed.

    A quarter of the episodes have no noise. The others have noise that is correlated from step to step, with a
    standard deviation drawn per episode, and bursts of a few random actions in place of the teacher's.

    Parameters:
        seed (`int`): Seed of the episode.
        low, high (`np.ndarray`):
            `[O]`, bounds of an action, infinite where there are none. Noise is proportional to half their distance,
            and to 1 where one of them is infinite.
        scale (`float` or `tuple[float, ...]`, defaults to 1.0):
            Factor of all noise, or of that on each action; smaller where actions are positions to move to.
    """

    def __init__(self, seed: int, low: np.ndarray, high: np.ndarray, scale: Scale = 1.0):
        self._random = np.random.default_rng(seed)
        self._is_undisturbed = self._random.random() < _SHARE_UNDISTURBED
        self._deviation = self._random.choice(_DEVIATIONS)
        self._drift = np.zeros(len(low))
        self._burst_steps_left = 0
        self._low, self._high, self._scale = low, high, np.asarray(scale)
        # the range of random actions, also where there are no bounds
        self._from = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high - 2.0, -1.0))
        self._to = np.where(np.isfinite(high), high, self._from + 2.0)
        self._unit = self._scale * (self._to - self._from) / 2.0

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """The action to execute in place of `action`, both `[O]` within the bounds."""
        if self._is_undisturbed:
            return action
        # correlated noise
        fresh = np.sqrt(1 - _CORRELATION**2) * self._deviation * self._random.standard_normal(len(action))
        self._drift = _CORRELATION * self._drift + fresh
        # burst of random actions
        if self._burst_steps_left == 0 and self._random.random() < _BURST_PROBABILITY:
            self._burst_steps_left = int(self._random.integers(_BURST_STEPS[0], _BURST_STEPS[1] + 1))
        if self._burst_steps_left > 0:
            self._burst_steps_left -= 1
            return (1.0 - self._scale) * action + self._scale * self._random.uniform(self._from, self._to)
        return np.clip(action + self._unit * self._drift, self._low, self._high)


class ChoiceNoise:
    """Replaces some of the choices of one episode by random ones, determined by the episode's seed.

    A quarter of the episodes have no noise.

    Parameters:
        seed (`int`): Seed of the episode.
        num_choices (`int`): Number of discrete actions.
        scale (`float`, defaults to 1.0): Factor of the probability of a random choice.
    """

    def __init__(self, seed: int, num_choices: int, scale: float = 1.0):
        self._random = np.random.default_rng(seed)
        is_undisturbed = self._random.random() < _SHARE_UNDISTURBED
        self._probability = 0.0 if is_undisturbed else scale * _RANDOM_CHOICE_PROBABILITY
        self._num_choices = num_choices

    def __call__(self, choice: np.ndarray) -> np.ndarray:
        """The choice to execute in place of `choice`, both an integer from 0."""
        if self._random.random() < self._probability:
            return np.asarray(self._random.integers(self._num_choices))
        return choice


def noise_scales(episodes_labels: Sequence[np.ndarray], contract: Contract) -> tuple[float, ...]:
    """Scales of noise that is as large as two of the steps that a teacher's actions take, at most 1.

    Parameters:
        episodes_labels (`Sequence[np.ndarray]`): `[T, O]`, the teacher's actions of every episode.
        contract ([`Contract`]): Bounds of the actions.
    """
    moved_O = np.sqrt(np.square(np.concatenate([np.diff(each, axis=0) for each in episodes_labels])).mean(axis=0))
    # in half distances of the bounds
    distance_O = np.subtract(contract.action_high, contract.action_low)
    half_O = np.where(np.isfinite(distance_O), distance_O / 2, 1.0)
    return tuple(np.clip(_TEACHER_STEPS * moved_O / half_O, 0.0, 1.0).tolist())
