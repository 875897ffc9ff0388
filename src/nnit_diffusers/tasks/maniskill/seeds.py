"""Episode seeds of every split, disjoint for demonstrations, DAgger, validation and test."""

from __future__ import annotations


# For demonstrations, for DAgger, for choosing networks, and for the final evaluation.
EPISODE_SPLITS = ("train", "dagger", "validation", "test")

# ManiSkill takes seeds below 2**31. Each split has its own range of them, and each seed a block of that range.
_SEEDS_PER_SPLIT = 2**28
_EPISODES_PER_SEED = 2**14
_NUM_SEEDS = _SEEDS_PER_SPLIT // _EPISODES_PER_SEED


def episode_seeds(split: str, seed: int, num_episodes: int) -> range:
    """The ManiSkill seeds of the episodes that `seed` chooses from a split.

    Different splits and different seeds have no episode in common. A larger `num_episodes` adds episodes and keeps the
    first ones.

    Raises:
        `ValueError`: If an argument is out of range.
    """
    if split not in EPISODE_SPLITS:
        raise ValueError(f"`split` must be one of {EPISODE_SPLITS}, but received {split!r}.")
    if not 0 <= seed < _NUM_SEEDS:
        raise ValueError(f"`seed` must be 0 to {_NUM_SEEDS - 1}, but received {seed}.")
    if not 1 <= num_episodes <= _EPISODES_PER_SEED:
        raise ValueError(f"`num_episodes` must be 1 to {_EPISODES_PER_SEED}, but received {num_episodes}.")
    start = EPISODE_SPLITS.index(split) * _SEEDS_PER_SPLIT + seed * _EPISODES_PER_SEED
    return range(start, start + num_episodes)
