"""Options that name what networks are for: a task by name, a table, or a simulator with a teacher or a recording."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from .command import OptionalFloat, OptionalStr


if TYPE_CHECKING:
    from ..tasks import Task

Range = Annotated[tuple[int, int] | None, arg(metavar="MIN MAX", help_behavior_hint="")]
# What only one kind of task takes.
_OF_TABLES = ("target", "target_kind")
_OF_SIMULATORS = ("env_kwargs", "teacher", "activation", "demonstrations", "success", "teacher_return")


@dataclass(kw_only=True)
class TaskOptions:
    """Options of `nnit train` that make its task."""

    task: Annotated[Positional[str | None], arg(metavar="TASK", help_behavior_hint="")] = None
    """Name of a task, module:name for one of your own, or with --target a table: a CSV or Parquet file, the folder of
    a data set, or its name on the Hub."""
    target: OptionalStr = None
    """Column of the table to predict."""
    target_kind: Annotated[
        Literal["classes", "numbers"] | None, arg(metavar="{classes,numbers}", help_behavior_hint="")
    ] = None
    """What the column holds. Default: words and few integers are classes."""
    env: OptionalStr = None
    """Environment of Gymnasium, Meta-World or ManiSkill to learn, such as HalfCheetah-v5 or drawer-open-v3."""
    env_kwargs: OptionalStr = None
    """Arguments of the environment as JSON, such as '{"control_mode": "pd_joint_pos"}'."""
    teacher: OptionalStr = None
    """Policy to imitate: module:function, or a file of ONNX, safetensors, torch.export, or a PPO checkpoint."""
    activation: OptionalStr = None
    """Activation of a teacher whose file does not record it."""
    demonstrations: OptionalStr = None
    """Recorded episodes to imitate: a .h5 file of ManiSkill, a LeRobot or Minari data set, .npz or .safetensors."""
    success: OptionalFloat = None
    """Part of the teacher's return from which an episode is a success, 0 to 1. Default: what the environment reports,
    or 0.9."""
    teacher_return: OptionalFloat = None
    """Mean return of the teacher, where it is not measured."""
    widths: Range = None
    """Widths in training. Default: chosen by the task."""
    depths: Range = None
    """Numbers of hidden layers in training. Default: chosen by the task."""
    data_dir: OptionalStr = None
    """Folder where the task finds or downloads its data or demonstrations. Default: the task's own folder."""

    def make_task(self) -> Task:
        """The task that the options describe.

        Raises:
            `ValueError`: If there is not exactly one, or an option does not fit it.
        """
        if (self.task is None) == (self.env is None):
            received = [value for value in (self.task, self.env) if value is not None]
            raise ValueError(f"One of TASK and `--env` must be given, but received {received or 'neither'}.")
        if self.env is not None:
            self._refuse(_OF_TABLES, "--env")
            return self._simulator_task()
        self._refuse(_OF_SIMULATORS, "a TASK")
        if self.target is not None:
            return self._table_task()
        return self._named_task()

    def _refuse(self, options: tuple[str, ...], kind: str) -> None:
        given = [f"--{name.replace('_', '-')}" for name in options if getattr(self, name) is not None]
        if given:
            raise ValueError(f"{', '.join(f'`{name}`' for name in given)} must not be given with {kind}.")

    @property
    def _grid(self) -> dict[str, Any]:
        """The widths and depths that were given, as arguments of a task."""
        ranges = {"width": self.widths, "depth": self.depths}
        return {
            f"{end}_{name}": number
            for name, bounds in ranges.items()
            if bounds is not None
            for end, number in zip(("min", "max"), bounds)
        }

    def _named_task(self) -> Task:
        from ..tasks import load_task
        from ..tasks.specs import is_table

        assert self.task is not None
        if is_table(self.task):
            raise ValueError(f"`--target` must name the column of {self.task!r} to predict, but received none.")
        if self.target_kind is not None:
            raise ValueError("`--target-kind` must be left out for a task by name, which has its own.")
        return load_task(self.task, self.data_dir).with_grid(**self._grid)

    def _table_task(self) -> Task:
        from ..tasks.tables import load_table_task

        assert self.task is not None and self.target is not None
        if self.data_dir is not None:
            raise ValueError(f"`--data-dir` must not be given for a table, but received {self.data_dir!r}.")
        return load_table_task(self.task, self.target, kind=self.target_kind, **self._grid)

    def _simulator_task(self) -> Task:
        from ..tasks.simulation.teachers import load_teacher
        from ..tasks.simulators import make_simulator_task

        assert self.env is not None
        teacher = None
        if self.teacher is not None:
            teacher = load_teacher(self.teacher, **({"activation": self.activation} if self.activation else {}))
        return make_simulator_task(
            self.env,
            _json_object(self.env_kwargs),
            teacher=teacher,
            success=self.success,
            teacher_return=self.teacher_return,
            data_dir=self.data_dir,
            **self._grid,
        )


def _json_object(text: str | None) -> dict[str, Any]:
    """The object that a text of JSON holds; empty without a text."""
    if text is None:
        return {}
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"`--env-kwargs` must be JSON, but received {text!r}: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"`--env-kwargs` must be a JSON object, but received {text!r}.")
    return content
