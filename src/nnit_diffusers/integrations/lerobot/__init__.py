"""A plugin of LeRobot: the policy `nnit_mlp` and the environment `maniskill_state`.

LeRobot's commands load both with `--env.discover_packages_path=nnit_diffusers.integrations.lerobot`; this needs
`nnit-diffusers[lerobot]`. LeRobot finds the classes of a policy by the names of modules (`configuration_*`,
`modeling_*`, `processor_*`) and classes (`...Config`, `...Policy`).
"""

from .configuration_nnit_mlp import NNiTMLPConfig
from .environment import ManiSkillStateEnv, ManiSkillStateEnvConfig
from .modeling_nnit_mlp import NNiTMLPPolicy


__all__ = ["ManiSkillStateEnv", "ManiSkillStateEnvConfig", "NNiTMLPConfig", "NNiTMLPPolicy"]
