"""A task in any environment of Meta-World."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..simulation.environment import EnvironmentSpec, MakeEnvironment
from ..simulation.rollouts import Teacher
from ..simulation.success import Success
from ..simulation.task import SimulatorTask
from .descriptions import DESCRIPTIONS, official_name, short_name
from .environments import make_metaworld
from .experts import MetaWorldExpert


class MetaWorldTask(SimulatorTask):
    """A task in one of the 50 environments of Meta-World, whose scripted expert is the teacher by default.

    Observations are the 39 numbers of Meta-World's multi-task benchmark, with the goal. Actions move the hand and the
    gripper. Every episode has a new scene, and its full length; an episode succeeds if any of its steps does.

    ```python
    task = MetaWorldTask("drawer-open", {"max_episode_steps": 200})
    ```

    Parameters:
        env_id (`str`): Name of the environment, with or without its version: `drawer-open` or `drawer-open-v3`.
        env_kwargs (`dict`, *optional*): `max_episode_steps`, 500 by default.
        teacher (`Callable`, *optional*): The scripted expert, [`MetaWorldExpert`], by default.
        min_width, max_width (`int`, default to 32 and 256): Inclusive range of widths in training.
        min_depth, max_depth (`int`, default to 1 and 6): Inclusive range of the number of hidden layers.

    The other parameters are those of [`SimulatorTask`].

    Raises:
        [`ContractError`]: If the environment does not exist, or an argument does not fit.
        `ImportError`: If Meta-World is not installed.
    """

    min_width = 32
    max_width = 256
    min_depth = 1
    max_depth = 6

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
        # refuses what is no name before it is looked up
        given = EnvironmentSpec("metaworld", env_id, {} if env_kwargs is None else env_kwargs)
        spec = EnvironmentSpec("metaworld", official_name(given.env_id), given.env_kwargs)
        super().__init__(
            spec,
            teacher=MetaWorldExpert(spec.env_id) if teacher is None else teacher,
            success=success,
            teacher_return=teacher_return,
            data_dir=data_dir,
            name=short_name(spec.env_id) if name is None else name,
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
        return partial(make_metaworld, self.environment_spec)

    @property
    def title(self) -> str:
        return f"Meta-World {short_name(self.env_id)}"

    @property
    def description(self) -> str:
        return DESCRIPTIONS[short_name(self.env_id)]
