import itertools

import pytest

from nnit_diffusers.tasks.base import DATA_SPLITS
from nnit_diffusers.tasks.maniskill.seeds import EPISODE_SPLITS, episode_seeds


LAST_SEED, MOST_EPISODES = 2**14 - 1, 2**14


def test_every_data_split_has_episodes_and_dagger_has_its_own():
    assert set(EPISODE_SPLITS) == {*DATA_SPLITS, "dagger"}


def test_splits_and_seeds_have_no_episode_in_common_and_fit_the_seeds_of_maniskill():
    blocks = [
        episode_seeds(split, seed, MOST_EPISODES)
        for split, seed in itertools.product(EPISODE_SPLITS, (0, 1, 2, LAST_SEED))
    ]
    for one, other in itertools.combinations(blocks, 2):
        assert one.stop <= other.start or other.stop <= one.start
    assert min(block.start for block in blocks) == 0
    assert max(block.stop for block in blocks) <= 2**31


def test_more_episodes_begin_with_the_same_episodes():
    assert list(episode_seeds("test", 3, 50))[:20] == list(episode_seeds("test", 3, 20))


@pytest.mark.parametrize(
    ("split", "seed", "num_episodes", "message"),
    [
        ("demonstrations", 0, 1, "`split` must be one of .*'dagger'.* but received 'demonstrations'"),
        ("test", -1, 1, "`seed` must be 0 to 16383, but received -1"),
        ("test", LAST_SEED + 1, 1, "received 16384"),
        ("test", 0, 0, "`num_episodes` must be 1 to 16384, but received 0"),
        ("test", 0, MOST_EPISODES + 1, "received 16385"),
    ],
)
def test_arguments_out_of_range_are_refused(split, seed, num_episodes, message):
    with pytest.raises(ValueError, match=message):
        episode_seeds(split, seed, num_episodes)
