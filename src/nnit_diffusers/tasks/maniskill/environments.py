"""ManiSkill's environments, made when first needed.

`mani_skill` is imported within functions: that takes seconds, and an extra of `setup.py` brings it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any


CONTROL_MODE = "pd_joint_delta_pos"

INSTALL_HINT = "Robot tasks need ManiSkill: `pip install nnit-diffusers[maniskill]`."
VULKAN_HINT = (
    "ManiSkill needs a Vulkan device, also where nothing is drawn, and found none. An NVIDIA driver brings one. "
    "Without a GPU, Mesa's software device from release 23.1 on will do: on Debian 12, as root, add the suite "
    "bookworm-backports to the machine's Debian source and run `apt-get install -t bookworm-backports "
    "mesa-vulkan-drivers libvulkan1`; on newer Debian or Ubuntu `apt-get install mesa-vulkan-drivers libvulkan1`. "
    "`scripts/install_vulkan.sh` of the repository does it."
)


class NoVulkanDeviceError(RuntimeError):
    """There is no Vulkan device that ManiSkill could use; the message says what to install."""

    def __init__(self, message: str = VULKAN_HINT):
        super().__init__(message)


def check_simulator() -> None:
    """Returns if environments can be made here; takes about a second.

    Raises:
        `ImportError`: If ManiSkill is not installed.
        `NoVulkanDeviceError`: If there is no Vulkan device.
    """
    if find_spec("mani_skill") is None:
        raise ImportError(INSTALL_HINT)
    import sapien

    try:
        sapien.render.RenderSystem()
    except RuntimeError as error:
        raise NoVulkanDeviceError from error


def import_simulator() -> None:
    """Imports ManiSkill, which registers its environments, and registers ours.

    Raises:
        `ImportError`, `NoVulkanDeviceError`: As [`check_simulator`].
    """
    check_simulator()
    from . import stack_cube_easy  # noqa: F401  # imports ManiSkill's as well


def make_environment(env_id: str, **kwargs: Any) -> Any:
    """An environment as figures are measured in it: one robot, state observations, PhysX on the CPU.

    Parameters:
        env_id (`str`): Name in Gymnasium's registry.
        kwargs: Of `gymnasium.make`, in place of these settings or beside them.

    Raises:
        `ImportError`, `NoVulkanDeviceError`: As [`check_simulator`].
    """
    import_simulator()
    import gymnasium
    import torch

    settings: dict[str, Any] = {
        "obs_mode": "state",
        "control_mode": CONTROL_MODE,
        "num_envs": 1,
        "sim_backend": "physx_cpu",
        # A machine with a driver for its GPU may have no other Vulkan device.
        "render_backend": "gpu" if torch.cuda.is_available() else "cpu",
    }
    return gymnasium.make(env_id, **(settings | kwargs))


if __name__ == "__main__":
    check_simulator()
