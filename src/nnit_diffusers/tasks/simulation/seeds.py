"""Episode seeds of every split, disjoint for demonstrations, DAgger, validation and test."""

from __future__ import annotations

import hashlib


# For demonstrations, for DAgger, for choosing networks, and for the final evaluation.
EPISODE_SPLITS = ("train", "dagger", "validation", "test")

# ManiSkill takes seeds below 2**31. Each split has its own range of them, and each seed a block of that range.
_SEEDS_PER_SPLIT = 2**28
_EPISODES_PER_SEED = 2**14
_NUM_BLOCKS = _SEEDS_PER_SPLIT // _EPISODES_PER_SEED
_MAX_SEED = 2**63 - 1


def episode_seeds(split: str, seed: int, num_episodes: int) -> range:
    """The ManiSkill seeds of the episodes that `seed` chooses from a split.

    Different splits have no episode in common. A larger `num_episodes` adds episodes and keeps the first ones.

    Seeds 0 to 16,383 have no episode in common either, because each has a block of its own. A larger seed begins at a
    hashed position of the split, so it can share episodes with another seed. For n episodes each, two given seeds do
    with a probability of about 2n / 2**28: less than one in a million for 100 episodes.

    Raises:
        `ValueError`: If an argument is out of range.
    """
    if split not in EPISODE_SPLITS:
        raise ValueError(f"`split` must be one of {EPISODE_SPLITS}, but received {split!r}.")
    if not 0 <= seed <= _MAX_SEED:
        raise ValueError(f"`seed` must be 0 to 2**63 - 1, but received {seed}.")
    if not 1 <= num_episodes <= _EPISODES_PER_SEED:
        raise ValueError(f"`num_episodes` must be 1 to {_EPISODES_PER_SEED}, but received {num_episodes}.")
    start = EPISODE_SPLITS.index(split) * _SEEDS_PER_SPLIT + _offset(seed)
    return range(start, start + num_episodes)


def _offset(seed: int) -> int:
    """Position of the first episode in the range of a split."""
    if seed < _NUM_BLOCKS:
        return seed * _EPISODES_PER_SEED
    digest = hashlib.sha256(f"episodes:{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (_SEEDS_PER_SPLIT - _EPISODES_PER_SEED + 1)
