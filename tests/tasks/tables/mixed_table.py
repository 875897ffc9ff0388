"""Tables for the tests of tables."""

import numpy as np
import pandas as pd


def mixed_frame(num_rows=300, seed=0):
    """Numbers, dates, categories, booleans, missing cells, and columns that are no inputs; `label` is rarely c."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "code": [f"u{row}" for row in range(num_rows)],
            "age": rng.integers(1, 90, num_rows).astype(float),
            "price": rng.normal(1e6, 10, num_rows),
            "color": rng.choice(["red", "green", "blue"], num_rows),
            "when": pd.date_range("2020-01-01", periods=num_rows, freq="7h"),
            "paid": rng.random(num_rows) > 0.5,
            "version": 1,
            "weight": rng.normal(size=num_rows).astype(np.float32),
            "label": rng.choice(["a", "b", "c"], num_rows, p=[0.8, 0.13, 0.07]),
        }
    )
    frame.loc[3:20, "age"] = np.nan
    frame.loc[30:50, "color"] = None
    frame.loc[60:62, "label"] = None
    return frame


def write_csv(folder, frame, name="table.csv", **options):
    """The path of a CSV file with the rows of a frame."""
    frame.to_csv(folder / name, index=False, **options)
    return folder / name
