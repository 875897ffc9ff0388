"""Parts of a model card of a simulator's task that is not built in: its environment, its teacher, and what fails."""

from __future__ import annotations

import json
import math
from pathlib import Path

from ..contract import NetworkContract
from ..evaluation.formats import percent
from ..evaluation.report import Report
from ..loading.local import read_json_object
from ..tasks.metadata import describe_layout
from ..tasks.simulation.task import SimulatorTask
from .folder import RECIPE_NAME
from .meaning import meaning
from .robot import what_fails


TEMPLATE = Path(__file__).with_suffix(".jinja")
# Name of a library and the extra that installs it.
_LIBRARIES = {
    "gymnasium": ("Gymnasium", "mujoco"),
    "maniskill": ("ManiSkill3", "maniskill"),
    "metaworld": ("Meta-World", "metaworld"),
}


def simulator_tables(
    task: SimulatorTask,
    tables: str,
    report: Report,
    repo_dir: Path,
    model_id: str,
    contract: NetworkContract | None = None,
) -> str:
    """The environment, how networks learned, failures, and the tables, in Markdown."""
    import jinja2

    library, extra = _LIBRARIES[task.environment_spec.library]
    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    return template.render(
        library=library,
        extra=extra,
        model_id=model_id,
        env_id=task.env_id,
        env_kwargs=json.dumps(dict(task.environment_spec.env_kwargs)) if task.environment_spec.env_kwargs else "",
        observation=describe_layout(task.observation_layout),
        action=describe_layout(task.action_layout),
        max_episode_steps=task.contract.max_episode_steps,
        success=_success(task),
        source=_source(task, repo_dir),
        is_discrete=task.is_discrete,
        is_bounded=any(math.isfinite(bound) for bound in (*task.contract.action_low, *task.contract.action_high)),
        is_described=bool(meaning(contract)),
        failures=what_fails(report),
        tables=tables,
    ).strip()


def _success(task: SimulatorTask) -> str:
    """What a success is, in words."""
    part = task.required_part
    if part is None:
        return "the environment reports success in any step"
    return f"a return of at least {percent(part, 0)} of the teacher's, {task.teacher_return():,.1f} on average"


def _source(task: SimulatorTask, repo_dir: Path) -> str:
    """What the networks imitate, in words, by the recipe in the folder of the pipeline."""
    recipe = read_json_object(repo_dir / RECIPE_NAME) if (repo_dir / RECIPE_NAME).is_file() else {}
    recorded, rounds = recipe.get("demonstrations"), len((recipe.get("ghn") or {}).get("dagger_steps") or ())
    episodes = (
        f"{recorded['num_episodes']} episodes of the teacher, under noise"
        if recorded is not None
        else "recorded demonstrations"
    )
    if rounds:
        return f"{episodes}, and {rounds} rounds of DAgger, in which the teacher labels what networks do"
    return f"{episodes} alone: no teacher labelled the states that networks get into (no DAgger)"
