import itertools
import random
import sys

import numpy as np
import pytest
import torch

from nnit_diffusers import MLPArchitecture
from nnit_diffusers.architecture import MASK_TOKEN, NONE_TOKEN
from nnit_diffusers.pipelines.budget import ArchitectureSpace, parse_architectures


IN_FEATURES, OUT_FEATURES = 3, 2
MIN_WIDTH, MAX_WIDTH = 2, 6
MAX_DEPTH, NUM_SLOTS = 3, 4


def space(hidden_sizes=None, min_parameters=None, max_parameters=None, **kwargs):
    widths = {"min_width": MIN_WIDTH, "max_width": MAX_WIDTH}
    sizes = {**widths, "min_depth": 1, "max_depth": MAX_DEPTH, "num_slots": NUM_SLOTS, **kwargs}
    return ArchitectureSpace(
        IN_FEATURES,
        OUT_FEATURES,
        hidden_sizes,
        min_parameters=min_parameters,
        max_parameters=max_parameters,
        **sizes,
    )


def count(hidden_sizes):
    return MLPArchitecture(IN_FEATURES, tuple(hidden_sizes), OUT_FEATURES).num_parameters


def completions(space):
    """Tokens of every architecture that a space allows, found by trying all of them."""
    depths = range(space.min_depth, space.max_depth + 1) if space.hidden_sizes is None else [len(space.hidden_sizes)]
    widths = range(space.min_width, space.max_width + 1)
    for depth in depths:
        wanted = space.hidden_sizes or (None,) * depth
        for chosen in itertools.product(*(widths if width is None else [width] for width in wanted)):
            least, most = space.min_parameters or 0, space.max_parameters or sys.maxsize
            if least <= count(chosen) <= most:
                yield MLPArchitecture(IN_FEATURES, chosen, OUT_FEATURES).tokens(space.num_slots)


def random_space(rng):
    hidden_sizes = None
    if rng.random() < 0.5:
        depth = rng.randint(1, NUM_SLOTS)
        hidden_sizes = tuple(rng.choice([None, None, rng.randint(1, 9)]) for _ in range(depth))
    least = rng.choice([None, rng.randint(5, 150)])
    most = rng.choice([None, (least or 20) + rng.choice([0, 0, 1, 3, 10, 60])])
    return space(hidden_sizes, least, most, min_depth=rng.choice([1, 1, 2, MAX_DEPTH]))


# Allowed tokens


@pytest.mark.parametrize("seed", range(60))
def test_allowed_tokens_are_exactly_those_that_can_be_completed(seed):
    rng = random.Random(seed)
    requested = random_space(rng)
    possible = list(completions(requested))
    if not possible:
        with pytest.raises(ValueError, match="must leave an architecture to generate"):
            requested.check()
        return
    requested.check()
    # fill slots in random order, and compare the allowed tokens with those of all completions
    tokens = requested.tokens()
    slots = [slot for slot, token in enumerate(tokens) if token == MASK_TOKEN]
    rng.shuffle(slots)
    for slot in slots:
        agreeing = [p for p in possible if all(t in (MASK_TOKEN, p[i]) for i, t in enumerate(tokens))]
        allowed = requested.allowed_tokens(tokens, slot).nonzero().flatten().tolist()
        assert allowed == sorted({p[slot] for p in agreeing})
        tokens[slot] = rng.choice(allowed)
    assert tokens in possible


def test_without_a_budget_every_width_and_depth_in_range_is_allowed():
    allowed = space().allowed_tokens([MASK_TOKEN] * NUM_SLOTS, 1)
    assert allowed.tolist() == [token == NONE_TOKEN or token > MIN_WIDTH for token in range(MAX_WIDTH + 2)]
    last = space().allowed_tokens([MASK_TOKEN] * NUM_SLOTS, NUM_SLOTS - 1)
    assert last.nonzero().flatten().tolist() == [NONE_TOKEN]
    first = space().allowed_tokens([MASK_TOKEN] * NUM_SLOTS, 0)
    assert not first[NONE_TOKEN]


def test_none_tokens_come_only_after_the_last_layer():
    after_none = space().allowed_tokens([MASK_TOKEN, NONE_TOKEN, MASK_TOKEN, MASK_TOKEN], 2)
    assert after_none.nonzero().flatten().tolist() == [NONE_TOKEN]
    before_width = space().allowed_tokens([MASK_TOKEN, MASK_TOKEN, 5, MASK_TOKEN], 1)
    assert not before_width[NONE_TOKEN] and before_width[MIN_WIDTH + 1]


@pytest.mark.parametrize("target", [20001, 33333, 60007])
def test_an_exact_parameter_count_is_met_at_realistic_sizes(target):
    requested = ArchitectureSpace(42, 8, None, 16, 256, 1, 3, 4, min_parameters=target, max_parameters=target)
    requested.check()
    tokens = requested.tokens()
    for slot in (1, 0, 3, 2):
        allowed = requested.allowed_tokens(tokens, slot).nonzero().flatten()
        tokens[slot] = int(allowed[torch.randint(len(allowed), ())])
    assert MLPArchitecture.from_tokens(tokens, 42, 8).num_parameters == target


# Errors


def test_a_budget_out_of_reach_is_an_error_that_names_the_possible_counts():
    fewest, most = count([MIN_WIDTH]), count([MAX_WIDTH] * MAX_DEPTH)
    with pytest.raises(ValueError, match=f"received None and {fewest - 1}: `arch=None` can have {fewest} to {most}"):
        space(max_parameters=fewest - 1).check()
    with pytest.raises(ValueError, match=f"received {most + 1} and None"):
        space(min_parameters=most + 1).check()
    space(min_parameters=most).check()
    space(max_parameters=fewest).check()


def test_a_budget_that_falls_between_two_architectures_is_an_error():
    counts = [count([width]) for width in range(MIN_WIDTH, MAX_WIDTH + 1)]
    with pytest.raises(ValueError, match=f"can have {counts[0]} to {counts[-1]} parameters, but not every number in"):
        space((None,), counts[0] + 1, counts[1] - 1).check()


def test_a_known_architecture_outside_the_budget_is_an_error_that_names_its_count():
    with pytest.raises(ValueError, match=r"`arch=\[4, 4\]` has 46 parameters"):
        space((4, 4), max_parameters=45).check()
    space((4, 4), max_parameters=46).check()


def test_known_widths_may_lie_outside_the_range_of_chosen_widths():
    assert space((1, 60)).tokens() == [2, 61, NONE_TOKEN, NONE_TOKEN]
    space((1, 60)).check()


def test_invalid_ranges_are_refused():
    with pytest.raises(ValueError, match="`arch` may have 1 to 64 hidden layers, but received 65"):
        space((4,) * 65).check()
    with pytest.raises(ValueError, match=r"`arch` may have widths of 1 to 96, but received \[97\]"):
        space((97,)).check()
    with pytest.raises(ValueError, match="`min_width` must be 1 to 6, but received 7"):
        space(min_width=7).check()
    with pytest.raises(ValueError, match="`max_depth` must be 1 to 4, but received 5"):
        space(max_depth=5).check()
    with pytest.raises(ValueError, match="`min_depth` must be 1 to 3, but received 4"):
        space(min_depth=4).check()


# Requests


@pytest.mark.parametrize(
    ("arch", "parsed"),
    [
        (None, [None]),
        ([4, None], [(4, None)]),
        ((4,), [(4,)]),
        ([[4], (5, None)], [(4,), (5, None)]),
        (MLPArchitecture(3, (4, 5), 2), [(4, 5)]),
        ([MLPArchitecture(3, (4, 5), 2), [6]], [(4, 5), (6,)]),
        (np.array([4, 5]), [(4, 5)]),
        (np.array([[4, 5], [6, 7]]), [(4, 5), (6, 7)]),
        ([np.int64(4), None], [(4, None)]),
        ([np.array([4]), range(5, 7)], [(4,), (5, 6)]),
        (torch.tensor([4, 5]), [(4, 5)]),
        (range(4, 7), [(4, 5, 6)]),
    ],
)
def test_architectures_are_requested_alone_or_in_lists(arch, parsed):
    assert parse_architectures(arch) == parsed


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ([], "must name at least one hidden layer"),
        ([[4], []], "must name at least one hidden layer"),
        (48, "must be a list of hidden widths.*received 48"),
        ("48", "must be a list of hidden widths.*received '48'"),
        ([[4], 5], "must be a list of hidden widths.*received 5"),
        ([[[4]]], r"received \[4\] \(list\)"),
        ([0], r"integers of 1 or more, but received 0 \(int\)"),
        ([4, -1], r"received -1 \(int\)"),
        ([4, 5.0], r"received 5.0 \(float\)"),
        ([True], r"received True \(bool\)"),
        (np.array([4.0, 5.0]), r"received 4.0 \(float\)"),
        ([np.True_], r"received np.True_ \(bool\)"),
        (np.array(4), r"must be a list of hidden widths"),
        (["4"], r"received '4' \(str\)"),
    ],
)
def test_invalid_architectures_are_refused(arch, message):
    with pytest.raises(ValueError, match=f"`arch`.*{message}"):
        parse_architectures(arch)
