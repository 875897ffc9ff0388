"""Which episodes are for what: one answer for demonstrations, DAgger, validation and test."""

from __future__ import annotations


# Episodes of demonstrations, of DAgger, to select networks on, and for the final evaluation.
EPISODE_SPLITS = ("train", "dagger", "validation", "test")

# ManiSkill takes seeds below 2**31. Each split has a range of its own, and each seed a block of its split.
_SEEDS_PER_SPLIT = 2**28
_EPISODES_PER_SEED = 2**14
_NUM_SEEDS = _SEEDS_PER_SPLIT // _EPISODES_PER_SEED


def episode_seeds(split: str, seed: int, num_episodes: int) -> range:
    """What ManiSkill is seeded with in the episodes that `seed` chooses from a split.

    No two splits have one in common, nor any two seeds of a split; more episodes are the same ones and further ones.

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
