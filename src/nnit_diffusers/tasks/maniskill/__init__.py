"""Robot tasks in ManiSkill3: environments, rollouts in worker processes, scripted experts.

`mani_skill` is imported when the first environment is created, not before.
"""

from .environments import NoVulkanDeviceError, check_simulator
from .task import ManiSkillTask


__all__ = ["ManiSkillTask", "NoVulkanDeviceError", "check_simulator"]
