"""Several tiny tasks of one kind: the same observations, and in each task another right answer."""

import gymnasium
import numpy as np
from gymnasium import spaces

from nnit_diffusers.tasks.gymnasium import GymnasiumTask


NUM_CHOICES, NUM_STEPS = 3, 4


class ShiftedChoices(gymnasium.Env):
    """A number is observed; the right choice is that number plus `shift`."""

    observation_space = spaces.Box(-np.inf, np.inf, (NUM_CHOICES,))
    action_space = spaces.Discrete(NUM_CHOICES)

    def __init__(self, shift=0):
        self.shift = shift

    def _draw(self):
        self.shown = int(self.np_random.integers(NUM_CHOICES))
        return np.eye(NUM_CHOICES, dtype=np.float32)[self.shown]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action):
        reward = float(action == (self.shown + self.shift) % NUM_CHOICES)
        return self._draw(), reward, False, False, {}


class ShiftTeacher:
    """Knows the right choice; as a class, so that it can be sent to other processes."""

    def __init__(self, shift):
        self.shift = shift

    def __call__(self, observations):
        return (observations.argmax(axis=1) + self.shift) % NUM_CHOICES


def shifted_task(shift, name=None, **options):
    """The task of one shift. Everything has to be right for a success."""
    if "NnitShifted-v0" not in gymnasium.registry:
        gymnasium.register("NnitShifted-v0", entry_point=ShiftedChoices, max_episode_steps=NUM_STEPS)
    options = {"success": 1.0, "teacher_return": float(NUM_STEPS), "max_width": 24, "max_depth": 2, **options}
    teacher = options.pop("teacher", ShiftTeacher(shift))
    task = GymnasiumTask("NnitShifted-v0", {"shift": shift}, teacher=teacher, name=name or f"shift-{shift}", **options)
    task.num_workers = 0
    return task


def right_network(shift):
    """A function that is always right in the task of this shift."""
    return lambda observations: observations.roll(shift, dims=1)
