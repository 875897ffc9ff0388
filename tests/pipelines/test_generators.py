"""Generators of a call: what is accepted, and what is refused."""

import pytest
from tiny import tiny_pipeline


def test_a_seed_instead_of_a_generator_is_refused_in_a_sentence():
    for wrong in (0, [0], [None]):
        with pytest.raises(ValueError, match=r"`generator` must be a `torch.Generator`.*but received (0|None)"):
            tiny_pipeline()([4], generator=wrong)
