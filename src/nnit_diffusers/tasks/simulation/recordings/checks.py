"""Checks of recorded demonstrations before anything is trained on them.

Shape legend: N steps of all episodes, T steps of one, I/O observation and action features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .base import Episode, Recording


TOLERANCE = 1e-3
"""How far an action may be outside its range: what rounding and recording in half precision may cause."""


def check_recording(
    recording: Recording,
    in_features: int,
    out_features: int,
    low: Sequence[float] | np.ndarray,
    high: Sequence[float] | np.ndarray,
    is_discrete: bool = False,
) -> Recording:
    """Checks sizes, numbers and ranges; returns the recording in float32, discrete actions as one-hot vectors.

    Parameters:
        recording ([`Recording`]): What was read.
        in_features (`int`): Size of an observation.
        out_features (`int`): Size of an action, or number of discrete actions.
        low, high (`Sequence[float]`): Bounds of the O numbers of an action; not used for discrete actions.
        is_discrete (`bool`, defaults to `False`): Whether an action is the choice of one of `out_features`.

    Raises:
        `ValueError`: If a size is another, a number is not finite, an action is out of its range, or there are fewer
            than 2 steps.
    """
    source = recording.source
    if sum(recording.lengths) < 2:
        raise ValueError(f"{source!r} must have 2 steps at least, but has {sum(recording.lengths)}.")
    episodes = []
    for episode in recording.episodes:
        if episode.observations.shape[1:] != (in_features,):
            raise ValueError(
                f"{source!r} must have observations of {in_features} numbers, as the environment has, but episode "
                f"{episode.name!r} has {episode.observations.shape[1]}."
            )
        observations = _finite(source, episode.name, "observation", episode.observations)
        if is_discrete:
            actions = _one_hot(source, episode, out_features)
        else:
            actions = _in_range(source, episode, np.asarray(low), np.asarray(high), out_features)
        episodes.append(replace(episode, observations=observations, actions=actions))
    return replace(recording, episodes=tuple(episodes))


def _finite(source: str, name: str, what: str, values: np.ndarray) -> np.ndarray:
    """Values `[T, …]` as float32, if all are finite in it."""
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32)
    if not np.isfinite(converted).all():
        row, feature = np.argwhere(~np.isfinite(converted))[0][:2]
        raise ValueError(
            f"{source!r} must have finite numbers, but episode {name!r} has {values[row, feature]} in feature "
            f"{feature} of the {what} of row {row}."
        )
    return converted


def _in_range(source: str, episode: Episode, low_O: np.ndarray, high_O: np.ndarray, out_features: int) -> np.ndarray:
    """Actions `[T, O]` of numbers within their bounds."""
    # a single number for each action may be stored without its dimension
    actions = episode.actions[:, None] if episode.actions.ndim == 1 else episode.actions
    if actions.shape[1] != out_features:
        raise ValueError(
            f"{source!r} must have actions of {out_features} numbers, as the environment has, but episode "
            f"{episode.name!r} has {actions.shape[1]}."
        )
    actions = _finite(source, episode.name, "action", actions)
    outside = (actions < low_O - TOLERANCE) | (actions > high_O + TOLERANCE)
    if outside.any():
        row, feature = np.argwhere(outside)[0]
        raise ValueError(
            f"{source!r} must have actions of {low_O[feature]:g} to {high_O[feature]:g} in feature {feature}, but "
            f"episode {episode.name!r} has {actions[row, feature]:g} in row {row}."
        )
    return actions


def _one_hot(source: str, episode: Episode, num_actions: int) -> np.ndarray:
    """Discrete actions `[T]` or `[T, 1]` as one-hot vectors `[T, O]`; those of `[T, O]` have to be one already."""
    actions = episode.actions
    if actions.ndim == 2 and actions.shape[1] == num_actions > 1:
        if not (np.isin(actions, (0, 1)).all() and (actions.sum(axis=1) == 1).all()):
            raise ValueError(
                f"{source!r} must have discrete actions, numbers or one-hot vectors, but episode {episode.name!r} has "
                "other vectors."
            )
        return actions.astype(np.float32)
    if actions.ndim == 2 and actions.shape[1] != 1:
        raise ValueError(
            f"{source!r} must have one of {num_actions} discrete actions in every step, but episode {episode.name!r} "
            f"has {actions.shape[1]} numbers."
        )
    flat = _finite(source, episode.name, "action", actions.reshape(-1, 1))[:, 0]
    outside = (flat != np.floor(flat)) | (flat < 0) | (flat >= num_actions)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(
            f"{source!r} must have discrete actions, integers of 0 to {num_actions - 1}, but episode {episode.name!r} "
            f"has {flat[row]:g} in row {row}."
        )
    return np.eye(num_actions, dtype=np.float32)[flat.astype(np.int64)]
