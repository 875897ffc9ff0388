import itertools

import pytest

from nnit_diffusers.tasks.base import DATA_SPLITS
from nnit_diffusers.tasks.simulation.seeds import EPISODE_SPLITS, episode_seeds


LAST_BLOCK, LAST_SEED, MOST_EPISODES = 2**14 - 1, 2**63 - 1, 2**14


def test_every_data_split_has_episodes_and_dagger_has_its_own():
    assert set(EPISODE_SPLITS) == {*DATA_SPLITS, "dagger"}


def test_splits_and_seeds_have_no_episode_in_common_and_fit_the_seeds_of_maniskill():
    blocks = [
        episode_seeds(split, seed, MOST_EPISODES)
        for split, seed in itertools.product(EPISODE_SPLITS, (0, 1, 2, LAST_BLOCK))
    ]
    for one, other in itertools.combinations(blocks, 2):
        assert one.stop <= other.start or other.stop <= one.start
    assert min(block.start for block in blocks) == 0
    assert max(block.stop for block in blocks) <= 2**31


def test_more_episodes_begin_with_the_same_episodes():
    for seed in (3, 20_000):
        assert list(episode_seeds("test", seed, 50))[:20] == list(episode_seeds("test", seed, 20))


def test_episodes_of_a_seed_never_change():
    assert [episode_seeds(split, 3, 1)[0] for split in EPISODE_SPLITS] == [3 * 2**14 + k * 2**28 for k in range(4)]
    assert episode_seeds("train", 20_000, 2) == range(17610789, 17610791)


def test_larger_seeds_have_other_episodes_within_the_range_of_their_split():
    seeds = [LAST_BLOCK, LAST_BLOCK + 1, 20_000, 2**31, LAST_SEED - 1, LAST_SEED]
    for number, split in enumerate(EPISODE_SPLITS):
        starts = [episode_seeds(split, seed, MOST_EPISODES) for seed in seeds]
        assert len({block.start for block in starts}) == len(seeds)
        assert all(number * 2**28 <= block.start and block.stop <= (number + 1) * 2**28 for block in starts)


@pytest.mark.parametrize(
    ("split", "seed", "num_episodes", "message"),
    [
        ("demonstrations", 0, 1, "`split` must be one of .*'dagger'.* but received 'demonstrations'"),
        ("test", -1, 1, r"`seed` must be 0 to 2\*\*63 - 1, but received -1"),
        ("test", LAST_SEED + 1, 1, f"received {2**63}"),
        ("test", 0, 0, "`num_episodes` must be 1 to 16384, but received 0"),
        ("test", 0, MOST_EPISODES + 1, "received 16385"),
    ],
)
def test_arguments_out_of_range_are_refused(split, seed, num_episodes, message):
    with pytest.raises(ValueError, match=message):
        episode_seeds(split, seed, num_episodes)
