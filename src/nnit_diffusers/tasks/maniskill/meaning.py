"""What observations and actions of an environment of ManiSkill mean, as it describes itself.

An environment whose observations or controllers are of another kind has fewer descriptions; none is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from ...contract import EnvironmentRecord, IOTerm
from ..simulation.environment import plain_json
from ..simulation.meaning import shortest


# Units of the positions of a joint, by its type.
_UNITS = {"revolute": "rad", "revolute_unwrapped": "rad", "prismatic": "m"}
# Joint states that begin an observation, and what is added to the unit of a position.
_JOINT_STATES = {"agent.qpos": "", "agent.qvel": "/s"}


def read_environment(simulation: Any, max_episode_steps: int, env_kwargs: Mapping[str, Any]) -> EnvironmentRecord:
    """The record of an environment.

    Parameters:
        simulation: The environment without its wrappers.
        max_episode_steps (`int`): Steps of an episode.
        env_kwargs (`Mapping[str, Any]`): Arguments it was made with; those that are no plain JSON are left out.
    """
    control_freq, robot = float(simulation.control_freq), getattr(simulation.agent, "uid", None)
    names = ("obs_mode", "control_mode", "robot_uids")
    given = {**{name: getattr(simulation, name) for name in names}, **env_kwargs}
    return EnvironmentRecord(
        library="maniskill",
        env_id=simulation.spec.id,
        library_version=metadata.version("mani_skill"),
        env_kwargs={name: value for name, value in given.items() if plain_json(value) is not None},
        robot=robot if isinstance(robot, str) else None,
        control_mode=simulation.control_mode,
        control_freq=control_freq,
        dt=1 / control_freq,
        decimation=simulation.sim_freq // simulation.control_freq,
        max_episode_steps=max_episode_steps,
    )


def read_observations(simulation: Any, in_features: int) -> tuple[IOTerm, ...]:
    """The parts of an observation by their names in the dictionary that ManiSkill flattens."""
    try:
        parts = simulation.get_obs(unflattened=True)
    except TypeError:  # an environment with a method of its own
        return ()
    if not isinstance(parts, dict):
        return ()
    robot = getattr(simulation.agent, "robot", None)
    joints = [] if robot is None else list(robot.active_joints)
    terms = []
    for name, size in _sizes("", parts):
        is_joints = name in _JOINT_STATES and size == len(joints)
        unit = _joint_unit(joints) if is_joints else None
        terms.append(
            IOTerm(
                name,
                (size,),
                units=None if unit is None else unit + _JOINT_STATES[name],
                joint_names=[joint.name for joint in joints] if is_joints else (),  # type: ignore[arg-type]
            )
        )
    return tuple(terms) if sum(term.size for term in terms) == in_features else ()


def read_actions(simulation: Any, out_features: int) -> tuple[IOTerm, ...]:
    """The parts of an action by the names of the controllers that take them, without bounds."""
    from mani_skill.agents.controllers.base_controller import BaseController, CombinedController

    controller = getattr(simulation.agent, "controller", None)
    if isinstance(controller, CombinedController):
        named = dict(controller.controllers)
    elif isinstance(controller, BaseController):
        named = {"actions": controller}
    else:  # several agents, or none
        return ()
    terms = []
    for name, part in named.items():
        shape = part.single_action_space.shape
        if shape is None or len(shape) != 1:
            return ()
        if shape[0]:
            scale, offset = _scaling(part, BaseController)
            what, units = _meaning(part)
            terms.append(
                IOTerm(
                    name,
                    tuple(shape),
                    units=units,
                    description=what,
                    joint_names=[joint.name for joint in part.joints],  # type: ignore[arg-type]
                    action_type=type(part).__name__,
                    scale=scale,
                    offset=offset,
                )
            )
    return tuple(terms) if sum(term.size for term in terms) == out_features else ()


def _sizes(name: str, part: Any) -> Iterator[tuple[str, int]]:
    """Name and size of every part of a dictionary, in the order in which ManiSkill flattens it."""
    if isinstance(part, dict):
        for key, inner in part.items():
            yield from _sizes(f"{name}.{key}" if name else str(key), inner)
        return
    # a tensor of one environment: a number, or a vector
    shape = tuple(getattr(part, "shape", ()))
    size = shape[-1] if len(shape) > 1 else 1
    if size:
        yield name, size


def _scaling(controller: Any, base_class: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and offset of a controller that normalises its actions as ManiSkill's base class does; empty otherwise."""
    if not getattr(controller, "_normalize_action", False):
        return (), ()
    if type(controller)._clip_and_scale_action is not base_class._clip_and_scale_action:
        return (), ()
    bounds = (controller.action_space_low.tolist(), controller.action_space_high.tolist())
    pairs = list(zip(*(map(shortest, bound) for bound in bounds)))
    return (
        tuple(shortest((high - low) / 2) for low, high in pairs),
        tuple(shortest((high + low) / 2) for low, high in pairs),
    )


def _meaning(controller: Any) -> tuple[str | None, str | None]:
    """What a controller of joints takes, and its unit; nothing is known of other controllers."""
    unit, kind = _joint_unit(controller.joints), type(controller).__name__
    if kind in ("PDJointPosController", "PDJointPosMimicController"):
        return ("changes of joint positions" if controller.config.use_delta else "joint positions"), unit
    if kind == "PDJointVelController":
        return "joint velocities", None if unit is None else f"{unit}/s"
    return None, None


def _joint_unit(joints: Any) -> str | None:
    """The unit of the positions of joints, if they have the same."""
    kinds = [kind for joint in joints for kind in (joint.type if isinstance(joint.type, list) else [joint.type])]
    units = {_UNITS.get(str(kind)) for kind in kinds}
    return units.pop() if len(units) == 1 else None
