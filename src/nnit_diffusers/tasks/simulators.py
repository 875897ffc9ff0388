"""Simulator tasks by name, and from JSON."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..loading.limits import shown
from ..regions import GRID
from .gymnasium.environments import import_gymnasium
from .gymnasium.task import GymnasiumTask
from .maniskill.environments import NoVulkanDeviceError, import_simulator
from .maniskill.task import ManiSkillTask
from .metaworld.descriptions import ENVIRONMENTS, is_metaworld, official_name
from .metaworld.task import MetaWorldTask
from .simulation.contract import ContractError, unknown_environment
from .simulation.environment import plain_json
from .simulation.task import SimulatorTask


Library = Literal["gymnasium", "maniskill", "metaworld"]

_CLASSES: dict[Any, type[GymnasiumTask] | type[ManiSkillTask] | type[MetaWorldTask]] = {
    "gymnasium": GymnasiumTask,
    "maniskill": ManiSkillTask,
    "metaworld": MetaWorldTask,
}
_ENV_ID = re.compile(r"[A-Za-z0-9_./-]{1,128}")
_MAX_JSON_CHARACTERS = 2**14
_KEYS = {"kind", "library", "env_id", "env_kwargs", "success", "teacher_return", "grid", "name"}


def find_library(env_id: str) -> Library:
    """The library that has an environment. ManiSkill is imported only if no other has it, and Meta-World never.

    Raises:
        [`ContractError`]: If none has it; the message names the nearest environments.
        `ImportError`, `NoVulkanDeviceError`: If it may be one of ManiSkill, which can't run here.
    """
    if is_metaworld(env_id) and not _is_registered(env_id):
        return "metaworld"
    registry = import_gymnasium().registry
    if ":" in env_id or (env_id in registry and not _is_maniskill(env_id)):
        return "gymnasium"
    try:
        import_simulator()
    except (ImportError, NoVulkanDeviceError) as error:
        missing = unknown_environment(env_id, [*registry, *ENVIRONMENTS], "Gymnasium or Meta-World")
        raise type(error)(f"{missing} If it is one of ManiSkill: {error}") from error
    if _is_maniskill(env_id):
        return "maniskill"
    raise unknown_environment(env_id, [*registry, *ENVIRONMENTS], "Gymnasium, Meta-World or ManiSkill")


def _is_registered(env_id: str) -> bool:
    """Whether someone has registered an environment of this name in Gymnasium."""
    module = sys.modules.get("gymnasium")
    return module is not None and env_id in module.registry


def _is_maniskill(env_id: str) -> bool:
    """Whether ManiSkill, where it has been imported, has an environment of this name."""
    module = sys.modules.get("mani_skill.utils.registration")
    return module is not None and env_id in module.REGISTERED_ENVS


def simulator_task_from_spec(
    spec: Mapping[str, Any], data_dir: str | Path | None = None, *, trusted: bool = False, **options: Any
) -> SimulatorTask:
    """The task that [`~SimulatorTask.spec`] describes.

    Parameters:
        spec (`Mapping[str, Any]`): The JSON object, which may come from anyone.
        data_dir (`str` or `Path`, *optional*): Folder of demonstrations.
        trusted (`bool`, defaults to `False`):
            Allow what runs code of others or is not plain JSON: names `module:environment`, and large arguments.
        options: Further arguments of the task, such as `teacher`.

    Raises:
        [`ContractError`]: If the object is malformed, refused, or does not fit an environment.
    """
    if not isinstance(spec, Mapping) or spec.get("kind") != "simulator" or not set(spec) <= _KEYS:
        raise ContractError(f"`spec` must be an object of kind 'simulator' with keys {sorted(_KEYS)}: {shown(spec)}.")
    library, env_id, env_kwargs = spec.get("library"), spec.get("env_id"), spec.get("env_kwargs", {})
    if not isinstance(library, str) or library not in _CLASSES:
        raise ContractError(f"`library` must be one of {list(_CLASSES)}, but received {shown(library)}.")
    if not isinstance(env_id, str) or not isinstance(env_kwargs, Mapping):
        raise ContractError(f"`env_id` must be a string and `env_kwargs` an object, but received {shown(spec)}.")
    if not trusted:
        _check_untrusted(library, env_id, env_kwargs)
    grid, name = spec.get("grid", {}), spec.get("name")
    if not isinstance(grid, Mapping) or not set(grid) <= set(GRID):
        raise ContractError(f"`grid` must be an object with keys {list(GRID)}, but received {shown(grid)}.")
    if name is not None and (not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", name)):
        raise ContractError(f"`name` must be letters, digits, - and _, but received {shown(name)}.")
    return _CLASSES[library](
        env_id,
        dict(env_kwargs),
        success=spec.get("success"),
        teacher_return=spec.get("teacher_return"),
        data_dir=data_dir,
        name=name,
        **{**grid, **options},
    )


def _check_untrusted(library: str, env_id: str, env_kwargs: Mapping[str, Any]) -> None:
    """Raises [`ContractError`] for names that import code, and arguments that are no plain JSON or large."""
    if not _ENV_ID.fullmatch(env_id):
        raise ContractError(
            f"`env_id` must be a name of at most 128 letters, digits, ., /, - and _, but received {shown(env_id)}."
        )
    # these make an environment of another package, by a name in their arguments
    if env_id.startswith("GymV2"):
        raise ContractError(f"`env_id` must not be a bridge to other packages, but received {shown(env_id)}.")
    if library == "gymnasium" and env_id not in import_gymnasium().registry:
        raise unknown_environment(env_id, list(import_gymnasium().registry), "Gymnasium")
    if library == "metaworld":
        official_name(env_id)
    text = plain_json(dict(env_kwargs))
    if text is None or len(text) > _MAX_JSON_CHARACTERS:
        raise ContractError(
            f"`env_kwargs` must be plain JSON of at most {_MAX_JSON_CHARACTERS} characters, but received "
            f"{shown(env_kwargs)}."
        )


def make_simulator_task(env_id: str, env_kwargs: Mapping[str, Any] | None = None, **options: Any) -> SimulatorTask:
    """A task in an environment of Gymnasium, Meta-World or ManiSkill, whichever has it; see the task of that library.

    Raises:
        [`ContractError`], `ImportError`: See [`find_library`], and the task of that library.
    """
    return _CLASSES[find_library(env_id)](env_id, env_kwargs, **options)
