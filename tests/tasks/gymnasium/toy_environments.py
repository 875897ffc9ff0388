"""Tiny environments for tests; importing this module registers them."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Line(gymnasium.Env):
    """A point on a line; an action moves it. Success within 0.1 of the goal. Observations are a dictionary."""

    def __init__(self, reports="is_success", step_size=1.0):
        self.reports, self.step_size = reports, step_size
        self.observation_space = spaces.Dict(
            {
                "position": spaces.Box(-10, 10, (1,)),
                "side": spaces.Discrete(2),
                "goal": spaces.Box(-10, 10, (1,), np.float64),
            }
        )
        self.action_space = spaces.Box(np.array([-0.5], np.float32), np.array([2.0], np.float32))
        self.executed = []

    def _observe(self):
        return {"position": self.position.astype(np.float32), "side": int(self.position[0] > 0), "goal": self.goal}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.goal = np.zeros(1), self.np_random.uniform(0.5, 1.5, 1)
        self.executed = []
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.executed.append(action.copy())
        self.position = self.position + self.step_size * action
        distance = abs(self.position[0] - self.goal[0])
        info = {} if self.reports is None else {self.reports: bool(distance < 0.1)}
        return self._observe(), -float(distance), False, False, info


class Choices(gymnasium.Env):
    """The number to choose is observed; numbers begin at 5."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Discrete(3, start=5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._draw(), {}

    def _draw(self):
        self.wanted = int(self.np_random.integers(3))
        return np.eye(3, dtype=np.float32)[self.wanted]

    def step(self, action):
        reward = float(action == 5 + self.wanted)
        return self._draw(), reward, False, False, {}


class Spaces(gymnasium.Env):
    """An environment with any spaces, which is never stepped."""

    def __init__(self, observation_space=None, action_space=None):
        self.observation_space = observation_space or spaces.Box(-1, 1, (3,))
        self.action_space = action_space or spaces.Box(-1, 1, (2,))


def register():
    for name, environment, limit in (
        ("NnitLine-v0", Line, 8),
        ("NnitChoices-v0", Choices, 10),
        ("NnitEndless-v0", Line, None),
        ("NnitSpaces-v0", Spaces, 10),
    ):
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=environment, max_episode_steps=limit)


register()
