"""What fuzzing has in common: values of any kind, damaged files, and a bound on memory."""

import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st


MOST_MEMORY = 2**30
# Always the same examples, so that failures are reproducible; as many as run in a few seconds.
FUZZED = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

SIZES = st.integers(1, 12)
HUGE = st.sampled_from([10**5, 10**9, 2**31, 2**63, 10**400])
WRONG = st.sampled_from(
    [
        *(-1, 0, True, False, 1.5, 1e300, float("nan"), float("inf"), None),
        *("8", "", "relu", "../../secret", "a" * 10**4, [], {}, [[1]], [None], ["a"]),
        *([1.0] * 5, [0.0] * 5, [float("nan")] * 5),
    ]
)
LEAVES = st.one_of(HUGE, WRONG)
# 10**5 networks or steps are a valid request, which would take too much time and memory.
COUNTS = LEAVES.filter(lambda value: value != 10**5)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), LEAVES),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def bounded_memory():
    """Allocating more than `MOST_MEMORY` in a test raises `MemoryError`, or `RuntimeError` in torch."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@st.composite
def damaged(draw, config):
    """A configuration with some invalid or missing values."""
    config = dict(config)
    for name in draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=3, unique=True)):
        if draw(st.integers(0, 9)):
            config[name] = draw(st.one_of(SIZES, HUGE, WRONG, JSON))
        else:
            del config[name]
    return config


@st.composite
def damaged_anywhere(draw, config):
    """The same for the objects and lists inside of it."""
    inner = [name for name, value in config.items() if value and isinstance(value, (dict, list))]
    if not inner or draw(st.booleans()):
        return draw(damaged(config))
    name = draw(st.sampled_from(inner))
    if isinstance(config[name], dict):
        return {**config, name: draw(damaged_anywhere(config[name]))}
    items = list(config[name])
    index = draw(st.integers(0, len(items) - 1))
    items[index] = draw(damaged_anywhere(items[index]) if isinstance(items[index], dict) else LEAVES)
    return {**config, name: items}


@st.composite
def corrupted(draw, content):
    """Content with bytes removed, changed or added anywhere, more often near the start, where the sizes are."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.one_of(st.integers(0, 200), st.integers(0, len(content) - 1)))
        content[position : position + draw(st.integers(0, 2))] = draw(st.binary(max_size=9))
    return bytes(content[: draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
