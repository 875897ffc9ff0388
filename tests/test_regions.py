from itertools import product

import pytest
import torch

from nnit_diffusers import ArchitectureRegions
from nnit_diffusers.regions import REGIONS, is_held_out_combination, is_held_out_width


def regions(**kwargs):
    return ArchitectureRegions(64, 10, **kwargs)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# Held-out widths and combinations


def test_held_out_widths_and_combinations_never_change():
    assert [width for width in range(16, 65) if is_held_out_width(width)] == [25, 29, 33, 38, 42, 52, 54, 58, 61]
    assert is_held_out_combination([48, 40])
    assert is_held_out_combination([128, 256])
    assert not is_held_out_combination([40, 48])
    assert not is_held_out_combination([48])


def test_common_widths_are_trained_on():
    assert not any(is_held_out_width(width) for width in (16, 24, 32, 40, 48, 56, 64, 96, 128, 192, 256))


def test_a_fifth_of_the_widths_and_a_quarter_of_the_combinations_are_held_out():
    assert sum(is_held_out_width(width) for width in range(1, 2001)) / 2000 == pytest.approx(1 / 5, abs=0.03)
    pairs = list(product(range(16, 65), repeat=2))
    assert sum(is_held_out_combination(pair) for pair in pairs) / len(pairs) == pytest.approx(1 / 4, abs=0.03)


def test_every_integer_width_is_trained_on_or_held_out():
    grid = regions(min_width=16, max_width=64)
    assert sorted(grid.train_widths + grid.held_out_widths) == list(range(16, 65))
    assert len(grid.held_out_widths) == 9


@pytest.mark.parametrize(
    ("hidden_sizes", "region"),
    [
        ([32], "seen"),
        ([64, 64], "seen"),
        ([48, 40], "held_out_combinations"),
        ([25], "held_out_widths"),
        ([32, 25], "held_out_widths"),
        ([32] * 4, "deeper"),
        ([25] * 4, "deeper"),
        ([65], "wider"),
        ([32, 32, 32, 128], "wider"),
    ],
)
def test_the_last_region_that_applies_counts(hidden_sizes, region):
    assert regions().region_of(hidden_sizes) == region


def test_smaller_architectures_than_in_training_are_named_and_never_drawn():
    assert regions().region_of([32, 15]) == "narrower"
    assert regions(min_depth=2).region_of([32]) == "shallower"
    assert not {"narrower", "shallower"} & set(REGIONS)


# Sampling


@pytest.mark.parametrize("region", REGIONS)
def test_samples_come_only_from_their_region(region):
    grid = regions(activation="tanh")
    architectures = grid.sample(region, 200, generator())
    assert {grid.region_of(architecture.hidden_sizes) for architecture in architectures} == {region}
    assert {(a.in_features, a.out_features, a.activation) for a in architectures} == {(64, 10, "tanh")}


def test_samples_depend_on_the_generator():
    assert regions().sample("seen", 20, generator(1)) == regions().sample("seen", 20, generator(1))
    assert regions().sample("seen", 20, generator(1)) != regions().sample("seen", 20, generator(2))


def test_training_samples_cover_every_width_and_depth():
    architectures = regions(min_width=16, max_width=32).sample("seen", 600, generator())
    assert {architecture.depth for architecture in architectures} == {1, 2, 3}
    assert {w for a in architectures for w in a.hidden_sizes} == set(regions(min_width=16, max_width=32).train_widths)


def test_held_out_regions_have_the_documented_widths_and_depths():
    grid = regions()
    for architecture in grid.sample("held_out_widths", 100, generator()):
        assert set(architecture.hidden_sizes) <= set(grid.held_out_widths)
    for architecture in grid.sample("held_out_combinations", 100, generator()):
        assert architecture.depth > 1
        assert set(architecture.hidden_sizes) <= set(grid.train_widths)
    for architecture in grid.sample("deeper", 100, generator()):
        assert architecture.depth == 4
        assert set(architecture.hidden_sizes) <= set(grid.train_widths)
    for architecture in grid.sample("wider", 100, generator()):
        assert 64 < max(architecture.hidden_sizes) <= 128
        assert min(architecture.hidden_sizes) >= 32


def test_the_minimum_depth_may_exceed_one():
    grid = regions(min_width=16, max_width=64, min_depth=2, max_depth=3)
    for region in ("seen", "held_out_combinations", "held_out_widths"):
        assert {architecture.depth for architecture in grid.sample(region, 100, generator())} == {2, 3}
    assert grid.region_of([48, 40]) == regions(min_width=16, max_width=64).region_of([48, 40])
    assert grid.region_of([48]) == "shallower"
    assert grid.region_of([48, 15]) == "narrower"


def test_distinct_samples_never_repeat():
    grid = regions(min_width=16, max_width=20, max_depth=1)
    assert len(grid.train_widths) == 5
    architectures = grid.sample("seen", 5, generator(), distinct=True)
    assert len(set(architectures)) == 5
    assert len(grid.sample("seen", 50, generator())) == 50


def test_a_region_with_fewer_distinct_architectures_gives_all_of_them_and_an_empty_one_none():
    grid = regions(min_width=16, max_width=20, max_depth=1)
    assert {a.hidden_sizes for a in grid.sample_distinct("seen", 50, generator())} == {(w,) for w in range(16, 21)}
    assert grid.sample_distinct("seen", 3, generator()) == grid.sample("seen", 3, generator(), distinct=True)
    assert grid.sample_distinct("held_out_combinations", 3, generator()) == []
    assert grid.sample_distinct("held_out_widths", 3, generator()) == []


# Errors


def test_more_distinct_samples_than_there_are_is_refused():
    grid = regions(min_width=16, max_width=20, max_depth=1)
    with pytest.raises(ValueError, match=r"region 'seen'.*but received 6; found 5"):
        grid.sample("seen", 6, generator(), distinct=True)


def test_an_empty_region_is_refused():
    with pytest.raises(ValueError, match=r"region 'held_out_widths'.*but received 1; found 0"):
        regions(min_width=16, max_width=20).sample("held_out_widths", 1, generator())


def test_an_unknown_region_is_refused():
    with pytest.raises(ValueError, match="one of .*'seen'.* but received 'test'"):
        regions().sample("test", 1)


@pytest.mark.parametrize(
    ("sizes", "received"),
    [
        ({"min_width": 0}, "received 0 and 64"),
        ({"min_width": 65}, "received 65 and 64"),
        ({"max_depth": 0}, "received 1 and 0"),
        ({"min_depth": 4}, "received 4 and 3"),
    ],
)
def test_invalid_ranges_are_refused(sizes, received):
    with pytest.raises(ValueError, match=received):
        regions(**sizes)


# Narrow training architectures


@pytest.mark.parametrize("narrow_fraction, num_narrow", [(0, 0), (0.3, 90), (1, 300)])
def test_a_fraction_of_the_training_architectures_has_log_uniform_widths(narrow_fraction, num_narrow):
    grid = regions(min_width=16, max_width=256)
    architectures = grid.sample_training(300, generator(), narrow_fraction)
    assert len(architectures) == 300
    assert {grid.region_of(architecture.hidden_sizes) for architecture in architectures} == {"seen"}
    # The median of uniform widths is the mean of the range, 136; that of log-uniform ones its geometric mean, 64.
    uniform, narrow = architectures[: 300 - num_narrow], architectures[300 - num_narrow :]
    for part, middle in ((uniform, 136), (narrow, 64)):
        widths = [width for architecture in part for width in architecture.hidden_sizes]
        if widths:
            assert sum(width <= middle for width in widths) / len(widths) == pytest.approx(0.5, abs=0.08)


def test_without_a_narrow_fraction_training_architectures_are_plain_samples():
    assert regions().sample_training(20, generator(1)) == regions().sample("seen", 20, generator(1))


@pytest.mark.parametrize("narrow_fraction", [-0.1, 1.1, float("nan")])
def test_an_invalid_narrow_fraction_is_refused(narrow_fraction):
    with pytest.raises(ValueError, match="`narrow_fraction` must be 0 to 1, but received"):
        regions().sample_training(20, generator(), narrow_fraction)
