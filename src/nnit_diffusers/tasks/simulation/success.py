"""What counts as success in a simulator: the environment's own report, or a part of the teacher's return."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ..base import Score
from .contract import Contract, ContractError
from .rollouts import Episode


# Success where the environment does not report it: this part of the teacher's return.
_DEFAULT_PART = 0.9

Success = Literal["info"] | float | None
"""`"info"`, a part of the teacher's return above 0 and at most 1, or `None` for what the environment offers."""


def check_success(success: Any, teacher_return: Any) -> None:
    """Raises [`ContractError`] unless `success` is a [`Success`] and the return a finite number or `None`."""
    is_part = isinstance(success, (int, float)) and not isinstance(success, bool) and 0 < success <= 1
    if success not in (None, "info") and not is_part:
        raise ContractError(f'`success` must be "info" or a number above 0, at most 1, but received {success!r}.')
    if teacher_return is not None and not (isinstance(teacher_return, (int, float)) and math.isfinite(teacher_return)):
        raise ContractError(f"`teacher_return` must be a finite number, but received {teacher_return!r}.")


def part_of_return(success: Success, contract: Contract | None) -> float | None:
    """Part of the teacher's return that is a success; `None` where the environment's own success counts.

    The contract is only needed for the default.
    """
    if success is None:
        return None if contract is not None and contract.reports_success else _DEFAULT_PART
    return None if isinstance(success, str) else float(success)


def check_fit(
    name: str,
    in_features: int | None,
    out_features: int | None,
    success: Success,
    has_return: bool,
    contract: Contract,
) -> None:
    """Checks that a task fits the environment that it has found.

    Raises:
        [`ContractError`]: If declared sizes are not those of the environment, or nothing decides about success.
    """
    contract.check_sizes(name, in_features, out_features)
    if success == "info" and not contract.reports_success:
        raise ContractError(
            f"`success` must be a number for {contract.env_id!r}, which does not report success, but received 'info'."
        )
    if part_of_return(success, contract) is not None and not has_return:
        raise ContractError(
            f"`teacher` or `teacher_return` must be given for {contract.env_id!r}, because success is a part of the "
            "teacher's return, but received neither."
        )


def judged(episodes: Sequence[Episode], part: float, teacher_return: float) -> list[Episode]:
    """Episodes that succeed if their return is at least this part of the teacher's, which may be negative."""
    required = teacher_return - (1 - part) * abs(teacher_return)
    return [
        replace(
            episode,
            success_once=episode.episode_return is not None and episode.episode_return >= required,
            success_at_end=None,
        )
        for episode in episodes
    ]


def score_of(episodes: Sequence[Episode], teacher_return: float | None) -> Score:
    """Successes and metrics of a network's episodes; see [`~SimulatorTask.score`].

    Parameters:
        episodes (`Sequence[Episode]`): The episodes, judged.
        teacher_return (`float`, *optional*): Return that success depends on, if it does.
    """
    returns = [episode.episode_return for episode in episodes if episode.episode_return is not None]
    at_end = [episode.success_at_end for episode in episodes if episode.success_at_end is not None]
    metrics: dict[str, float] = {}
    if at_end:
        metrics["success_at_end"] = float(np.mean(at_end))
    if returns:
        metrics["mean_return"] = float(np.mean(returns))
    if len(returns) > 1:
        metrics["return_std"] = float(np.std(returns, ddof=1))
    if teacher_return is not None and teacher_return > 0:
        metrics["return_of_teacher"] = metrics["mean_return"] / teacher_return
    return Score(sum(episode.success_once for episode in episodes), len(episodes), metrics)
