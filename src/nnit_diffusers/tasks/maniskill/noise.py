"""Noise on the expert's actions while it is recorded, so that demonstrations show how to recover."""

from __future__ import annotations

import numpy as np


_SHARE_UNDISTURBED = 0.25
_DEVIATIONS = (0.0, 0.15, 0.3, 0.5)
_CORRELATION = 0.7
_BURST_PROBABILITY = 0.03
_BURST_STEPS = (2, 4)


class ActionNoise:
    """Adds noise to the actions of one episode, determined by the episode's seed.

    A quarter of the episodes have no noise. The others have noise that is correlated from step to step, with a
    standard deviation drawn per episode, and bursts of a few random actions in place of the expert's.

    Parameters:
        seed (`int`): Seed of the episode.
        num_actions (`int`): Size of an action.
    """

    def __init__(self, seed: int, num_actions: int):
        self._random = np.random.default_rng(seed)
        self._is_undisturbed = self._random.random() < _SHARE_UNDISTURBED
        self._deviation = self._random.choice(_DEVIATIONS)
        self._drift = np.zeros(num_actions)
        self._burst_steps_left = 0

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """The action to execute in place of `action`, both `[num_actions]` in -1…1."""
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
            return self._random.uniform(-1.0, 1.0, len(action))
        return np.clip(action + self._drift, -1.0, 1.0)
