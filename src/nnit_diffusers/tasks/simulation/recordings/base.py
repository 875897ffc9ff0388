"""What a recording is.

Shape legend: N steps of all episodes, T steps of one, I/O observation and action features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ....loading.limits import check_total


MAX_NUMBERS = 2**29
"""Numbers of one recording: 2 GiB in single precision."""


def check_numbers_of(path: str | Path, count: int) -> None:
    """Raises `ValueError` if a recording has more numbers than fit in memory."""
    check_total(f"The numbers in {str(path)!r}", count, MAX_NUMBERS)


@dataclass(frozen=True)
class Episode:
    """One recorded episode.

    Parameters:
        name (`str`): Name in the recording.
        observations (`np.ndarray`): Observations `[T, I]` in which the actions were taken.
        actions (`np.ndarray`): Actions `[T, O]`, or `[T]` integers.
        success (`bool`, *optional*): Whether it succeeded at any step, if that is recorded.
    """

    name: str
    observations: np.ndarray
    actions: np.ndarray
    success: bool | None = None


@dataclass(frozen=True)
class Recording:
    """Recorded episodes and where they are from.

    Parameters:
        source (`str`): File or folder, or the name of a data set.
        kind (`str`): Format: `"maniskill"`, `"lerobot"`, `"minari"`, `"npz"` or `"safetensors"`.
        files (`tuple[Path, ...]`): Files that were read.
        episodes (`tuple[Episode, ...]`): Episodes in their order.
        num_dropped (`int`): Episodes left out because they failed.
        details (`Mapping[str, Any]`): What else the format records, JSON-ready.
    """

    source: str
    kind: str
    files: tuple[Path, ...]
    episodes: tuple[Episode, ...]
    num_dropped: int
    details: Mapping[str, Any]

    @property
    def observations(self) -> np.ndarray:
        """Observations `[N, I]` of all episodes, float32."""
        return np.concatenate([episode.observations for episode in self.episodes]).astype(np.float32)

    @property
    def actions(self) -> np.ndarray:
        """Actions `[N, O]` of all episodes, float32, or `[N]` for integers that were not converted."""
        return np.concatenate([episode.actions for episode in self.episodes]).astype(np.float32)

    @property
    def lengths(self) -> list[int]:
        """Steps of every episode."""
        return [len(episode.actions) for episode in self.episodes]

    def successful(self) -> Recording:
        """The recording without episodes that failed; all of them if none is known to have succeeded."""
        kept = tuple(episode for episode in self.episodes if episode.success is not False)
        if not any(episode.success for episode in self.episodes):
            return self
        return replace(self, episodes=kept, num_dropped=len(self.episodes) - len(kept))


def recording_of(
    source: str | Path, kind: str, files: Sequence[Path], episodes: Sequence[Episode], **details: Any
) -> Recording:
    """A recording of all its episodes.

    Raises:
        `ValueError`: If it has none, or observations and actions are not in pairs.
    """
    if not episodes:
        raise ValueError(f"{str(source)!r} must have at least one episode, but has none.")
    for episode in episodes:
        if episode.observations.ndim != 2 or episode.actions.ndim not in (1, 2):
            raise ValueError(
                f"{str(source)!r} must have observations [T, I] and actions [T, O], but episode {episode.name!r} has "
                f"shapes {list(episode.observations.shape)} and {list(episode.actions.shape)}."
            )
        if len(episode.observations) != len(episode.actions):
            raise ValueError(
                f"{str(source)!r} must have an observation for every action, but episode {episode.name!r} has "
                f"{len(episode.observations)} and {len(episode.actions)}."
            )
    return Recording(str(source), kind, tuple(files), tuple(episodes), 0, details)
