"""Names of Meta-World's environments, and what the robot has to do in each, in the words of its paper.

They are listed here, so that a name is checked without the library.
"""

from __future__ import annotations

from ..simulation.contract import unknown_environment


_SUFFIX = "-v3"

DESCRIPTIONS = {
    "assembly": "Pick up a nut and place it onto a peg.",
    "basketball": "Dunk the basketball into the basket.",
    "bin-picking": "Grasp the puck from one bin and place it into another bin.",
    "box-close": "Grasp the cover and close the box with it.",
    "button-press": "Press a button.",
    "button-press-topdown": "Press a button from the top.",
    "button-press-topdown-wall": "Bypass a wall and press a button from the top.",
    "button-press-wall": "Bypass a wall and press a button.",
    "coffee-button": "Push a button on the coffee machine.",
    "coffee-pull": "Pull a mug from a coffee machine.",
    "coffee-push": "Push a mug under a coffee machine.",
    "dial-turn": "Rotate a dial 180 degrees.",
    "disassemble": "Pick a nut out of a peg.",
    "door-close": "Close a door with a revolving joint.",
    "door-lock": "Lock the door by rotating the lock clockwise.",
    "door-open": "Open a door with a revolving joint.",
    "door-unlock": "Unlock the door by rotating the lock counter-clockwise.",
    "drawer-close": "Push and close a drawer.",
    "drawer-open": "Open a drawer.",
    "faucet-close": "Rotate the faucet clockwise.",
    "faucet-open": "Rotate the faucet counter-clockwise.",
    "hammer": "Hammer a screw on the wall.",
    "hand-insert": "Insert the gripper into a hole.",
    "handle-press": "Press a handle down.",
    "handle-press-side": "Press a handle down sideways.",
    "handle-pull": "Pull a handle up.",
    "handle-pull-side": "Pull a handle up sideways.",
    "lever-pull": "Pull a lever down 90 degrees.",
    "peg-insert-side": "Insert a peg sideways.",
    "peg-unplug-side": "Unplug a peg sideways.",
    "pick-out-of-hole": "Pick up a puck from a hole.",
    "pick-place": "Pick and place a puck to a goal.",
    "pick-place-wall": "Pick a puck, bypass a wall and place the puck.",
    "plate-slide": "Slide a plate into a cabinet.",
    "plate-slide-back": "Get a plate from the cabinet.",
    "plate-slide-back-side": "Get a plate from the cabinet sideways.",
    "plate-slide-side": "Slide a plate into a cabinet sideways.",
    "push": "Push the puck to a goal.",
    "push-back": "Pull a puck to a goal.",
    "push-wall": "Bypass a wall and push a puck to a goal.",
    "reach": "Reach a goal position.",
    "reach-wall": "Bypass a wall and reach a goal.",
    "shelf-place": "Pick and place a puck onto a shelf.",
    "soccer": "Kick a soccer ball into the goal.",
    "stick-pull": "Grasp a stick and pull a box with the stick.",
    "stick-push": "Grasp a stick and push a box using the stick.",
    "sweep": "Sweep a puck off the table.",
    "sweep-into": "Sweep a puck into a hole.",
    "window-close": "Push and close a window.",
    "window-open": "Push and open a window.",
}
"""What the robot has to do, by the name of the environment without its version."""

ENVIRONMENTS = tuple(f"{name}{_SUFFIX}" for name in DESCRIPTIONS)
"""Official names of all 50 environments."""

MT10 = tuple(
    f"{name}{_SUFFIX}"
    for name in (
        *("reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close"),
        *("button-press-topdown", "peg-insert-side", "window-open", "window-close"),
    )
)
"""The ten environments of Meta-World's benchmark MT10, in its order."""


def short_name(env_id: str) -> str:
    """The name of an environment without its version: `drawer-open`."""
    return env_id.removesuffix(_SUFFIX)


def is_metaworld(env_id: str) -> bool:
    """Whether a name, with or without its version, is that of an environment of Meta-World."""
    return short_name(env_id) in DESCRIPTIONS


def official_name(env_id: str) -> str:
    """The official name of an environment, such as `drawer-open-v3`, given with or without its version.

    Raises:
        [`ContractError`]: If there is none; the message names the nearest.
    """
    if not is_metaworld(env_id):
        raise unknown_environment(env_id, ENVIRONMENTS, "Meta-World")
    return f"{short_name(env_id)}{_SUFFIX}"
