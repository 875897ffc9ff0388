"""Meta-World's scripted experts as teachers: functions from an observation to an action, without a memory.

Shape legend: N observations, I/O observation and action features.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .descriptions import official_name
from .environments import import_metaworld


class MetaWorldExpert:
    """The scripted expert of an environment of Meta-World; it can be pickled.

    ```python
    actions = MetaWorldExpert("drawer-open")(observations)
    ```

    Parameters:
        env_id (`str`): Name of the environment, with or without its version.

    Raises:
        [`ContractError`]: If there is no such environment.
    """

    def __init__(self, env_id: str):
        self.env_id = official_name(env_id)
        self._policy: Any = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.env_id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.env_id,)

    def __call__(self, observations_NI: np.ndarray) -> np.ndarray:
        """Actions `[N, 4]` of -1 to 1 for observations `[N, 39]`.

        Raises:
            `ImportError`: If Meta-World is not installed.
        """
        if self._policy is None:
            import_metaworld()
            from metaworld.policies import ENV_POLICY_MAP

            policy_class: Any = ENV_POLICY_MAP[self.env_id]
            self._policy = policy_class()
        # Actions are clipped below, so that this one warning is of no use. The filter stays, because the context
        # manager that would remove it is not safe where threads run episodes.
        warnings.filterwarnings("ignore", "Constant\\(s\\) may be too high", UserWarning, r"metaworld\.policies")
        actions_NO = np.stack([self._policy.get_action(observation_I) for observation_I in observations_NI])
        return actions_NO.clip(-1.0, 1.0)
