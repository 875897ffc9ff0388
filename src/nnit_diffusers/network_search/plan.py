"""How much a search of a task computes by default."""

from __future__ import annotations

from dataclasses import dataclass

from ..tasks import Task


@dataclass(frozen=True)
class SearchPlan:
    """Defaults for the arguments of the same names of [`search`].

    Parameters:
        num_bands (`int`, defaults to 8): Bands of parameter counts.
        networks_per_band (`int`, defaults to 8): Networks generated in each band.
        screen_episodes (`tuple[int, ...]`, defaults to (25, 100)): Validation episodes in each screening round.
        reduction (`int`, defaults to 4): A screening round keeps one network in `reduction` of each band.
        num_confirm_episodes (`int`, *optional*): Test episodes of each finalist; the task's own number by default.
    """

    num_bands: int = 8
    networks_per_band: int = 8
    screen_episodes: tuple[int, ...] = (25, 100)
    reduction: int = 4
    num_confirm_episodes: int | None = None

    @classmethod
    def for_task(cls, task: Task) -> SearchPlan:
        """The plan of a task: fewer networks and episodes if its episodes are slow."""
        if not task.has_slow_episodes:
            return cls()
        # 960 episodes to screen and 900 to confirm. With 150 episodes, two failures still give a lower bound above
        # 95%; with 100, none may fail.
        return cls(num_bands=6, screen_episodes=(10, 40), num_confirm_episodes=150)
