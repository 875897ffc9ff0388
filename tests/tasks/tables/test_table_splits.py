import numpy as np
import pandas as pd
from mixed_table import mixed_frame

from nnit_diffusers.tasks.tables import split_of_rows


def test_the_split_of_known_rows_never_changes():
    frame = pd.DataFrame({"x": [0.5, 1.5, -2.0, 3.25, 1e300, None], "y": ["a", "b", "é", None, "c", "d"]})
    assert split_of_rows(frame).tolist() == ["train", "train", "train", "test", "validation", "train"]


def test_about_three_fifths_of_the_rows_are_for_training_and_a_fifth_for_each_other_split():
    split = split_of_rows(pd.DataFrame({"x": np.arange(10_000)}))
    shares = [(split == name).mean() for name in ("train", "validation", "test")]
    assert np.allclose(shares, [0.6, 0.2, 0.2], atol=0.02)


def test_neither_the_order_of_rows_and_columns_nor_their_types_matter():
    frame = mixed_frame().drop(columns="weight")  # float32, which is no Python number
    split = split_of_rows(frame)
    order = np.random.default_rng(1).permutation(len(frame))
    assert (split_of_rows(frame.iloc[order, ::-1]) == split[order]).all()
    texts = frame.astype(object).where(frame.notna(), None).map(lambda value: None if value is None else str(value))
    assert (split_of_rows(texts) == split).all()


def test_rows_that_are_added_move_none_and_equal_rows_are_together():
    frame = mixed_frame().drop(columns="weight")  # float32, which is no Python number
    added = pd.DataFrame({**dict.fromkeys(frame.columns, "text"), "age": ["x", "y"]})
    split = split_of_rows(pd.concat([frame.astype(object), added, frame.astype(object)], ignore_index=True))
    assert (split[:300] == split_of_rows(frame)).all()
    assert (split[302:] == split[:300]).all()


def test_every_cell_of_a_row_counts():
    frame = pd.DataFrame({"x": np.arange(200.0), "y": "a"})
    for changed in (frame.assign(y="b"), frame.assign(y=None), frame.assign(x=frame["x"] + 1e-9)):
        assert 50 < (split_of_rows(changed) != split_of_rows(frame)).sum() < 150


def test_zero_has_no_sign():
    frame = pd.DataFrame({"x": np.arange(50), "zero": 0.0})
    assert (split_of_rows(frame.assign(zero=-0.0)) == split_of_rows(frame)).all()


def test_splits_that_are_given_are_kept_and_training_rows_fill_the_missing_ones():
    frame = pd.DataFrame({"x": np.arange(4000)})
    fixed = np.array(["train"] * 3000 + ["test"] * 1000, dtype=object)
    split = split_of_rows(frame, fixed)
    assert (split[3000:] == "test").all()
    assert set(split[:3000]) == {"train", "validation"}
    assert abs((split[:3000] == "validation").mean() - 0.25) < 0.03
    fixed[:1000] = "validation"
    assert (split_of_rows(frame, fixed) == fixed).all()
