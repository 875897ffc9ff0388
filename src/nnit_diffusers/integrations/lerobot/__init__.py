"""A plugin of LeRobot: the policy `nnit_mlp` and the environment `maniskill_state`.

Loaded by LeRobot's commands with `--env.discover_packages_path=nnit_diffusers.integrations.lerobot`, which registers
both; needs `nnit-diffusers[lerobot]`. LeRobot finds the classes of a policy by names: `configuration_*`, `modeling_*`
and `processor_*`, `...Config` and `...Policy`.
"""

from .configuration_nnit_mlp import NNiTMLPConfig
from .environment import ManiSkillStateEnv, ManiSkillStateEnvConfig
from .modeling_nnit_mlp import NNiTMLPPolicy


__all__ = ["ManiSkillStateEnv", "ManiSkillStateEnvConfig", "NNiTMLPConfig", "NNiTMLPPolicy"]
