"""A task in any environment of Gymnasium with vector observations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..simulation.environment import EnvironmentSpec, MakeEnvironment
from ..simulation.rollouts import Teacher
from ..simulation.success import Success
from ..simulation.task import SimulatorTask, task_name
from .environments import find_registration, make_gymnasium


class GymnasiumTask(SimulatorTask):
    """A task in an environment of Gymnasium: vector observations, and a vector or one choice as action.

    Dictionaries of observations are flattened, and `observation_layout` has the order. Outputs of networks are
    actions, clipped to the action space, or logits of discrete actions. An episode ends when it is terminated or
    truncated.

    ```python
    task = GymnasiumTask("HalfCheetah-v5", teacher=lambda observations: actions)
    ```

    Parameters:
        env_id (`str`): Name in Gymnasium's registry.
        env_kwargs (`dict`, *optional*): Arguments of `gymnasium.make`, such as `max_episode_steps`.
        min_width, max_width (`int`, default to 16 and 128): Inclusive range of widths in training.
        min_depth, max_depth (`int`, default to 1 and 3): Inclusive range of the number of hidden layers.

    The other parameters are those of [`SimulatorTask`].

    Raises:
        [`ContractError`]: If the environment does not exist, can't be made, or does not fit.
        `ImportError`: If a package is missing.
    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: Mapping[str, Any] | None = None,
        *,
        teacher: Teacher | None = None,
        success: Success = None,
        teacher_return: float | None = None,
        data_dir: str | Path | None = None,
        name: str | None = None,
        noise_scale: float | None = None,
        min_width: int | None = None,
        max_width: int | None = None,
        min_depth: int | None = None,
        max_depth: int | None = None,
    ):
        spec = EnvironmentSpec("gymnasium", env_id, {} if env_kwargs is None else env_kwargs)
        super().__init__(
            spec,
            teacher=teacher,
            success=success,
            teacher_return=teacher_return,
            data_dir=data_dir,
            name=task_name(env_id) if name is None else name,
            noise_scale=noise_scale,
            grid={"min_width": min_width, "max_width": max_width, "min_depth": min_depth, "max_depth": max_depth},
        )
        # read the contract at once, which is quick
        environment = self._make_environment(False)
        environment.close()
        self.contract = environment.contract
        self._check(self.contract)

    @property
    def _make_environment(self) -> MakeEnvironment:
        return partial(make_gymnasium, self.environment_spec, find_registration(self.env_id))
