"""ManiSkill environments, and checks that they can run here.

`mani_skill` is imported inside functions: the import takes seconds, and only an extra of `setup.py` installs it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any


CONTROL_MODE = "pd_joint_delta_pos"

INSTALL_HINT = "Robot tasks need ManiSkill: `pip install nnit-diffusers[maniskill]`."
VULKAN_HINT = (
    "ManiSkill needs a Vulkan device, even if nothing is rendered, and found none. An NVIDIA driver provides one. "
    "Without a GPU, use Mesa's software device, release 23.1 or later. On Debian 12, as root, add the suite "
    "bookworm-backports to the Debian sources and run `apt-get install -t bookworm-backports mesa-vulkan-drivers "
    "libvulkan1`. On newer Debian or Ubuntu, run `apt-get install mesa-vulkan-drivers libvulkan1`."
)


class NoVulkanDeviceError(RuntimeError):
    """ManiSkill found no Vulkan device; the message names the packages to install."""

    def __init__(self, message: str = VULKAN_HINT):
        super().__init__(message)


def check_simulator() -> None:
    """Checks that environments can be created on this machine; takes about a second.

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
    """Imports ManiSkill, and registers its environments and ours.

    Raises:
        `ImportError`, `NoVulkanDeviceError`: As [`check_simulator`].
    """
    check_simulator()
    from . import stack_cube_easy  # noqa: F401  # imports ManiSkill's environments as well


def make_environment(env_id: str, **kwargs: Any) -> Any:
    """Creates an environment with the settings of all evaluations: one robot, state observations, PhysX on the CPU.

    Parameters:
        env_id (`str`): Name in Gymnasium's registry.
        kwargs: Further arguments of `gymnasium.make`; they override these settings.

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
        # A machine with a GPU driver may have no other Vulkan device.
        "render_backend": "gpu" if torch.cuda.is_available() else "cpu",
    }
    return gymnasium.make(env_id, **(settings | kwargs))


if __name__ == "__main__":
    check_simulator()
