"""The data card of a weight dataset, for the Hub and for readers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from huggingface_hub import DatasetCardData


# size categories as the Hub names them, with their upper limits
_SIZE_CATEGORIES = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6}
_MAX_LISTED = 10

_CARD = """---
{header}
---

# Weights of {num_networks:,} neural networks

Trained multi-layer perceptrons for {tasks}, as plain torch weights. They map raw inputs to outputs of the task.

| | |
| --- | --- |
| networks | {num_networks:,} |
| architectures | {num_architectures:,} |
| parameters | {min_parameters:,} to {max_parameters:,} |
| regions | {regions} |
| origins | {origins} |
| mean score | {score} |

```python
from nnit_diffusers import WeightDataset

dataset = WeightDataset("path/or/repo", region=None)
dataset[0]  # an MLP
dataset.index.to_pandas()  # origin and score of every network
```

`index.parquet` has a row for every network: its architecture, task, region, origin, latent or seed, step, and score on
validation data. The columns `shard` and `key` locate its weights: the file in `shards/`, and the prefix of its tensors
`{{key}}0.weight`, `{{key}}0.bias`, `{{key}}2.weight`, …

Made with [nnit-diffusers](https://github.com/nnit-diffusers/nnit-diffusers).
"""


def data_card(rows: list[dict[str, Any]]) -> str:
    """README.md of a dataset with these rows in its index: a YAML header for the Hub, then a summary."""
    # YAML header
    header = DatasetCardData(
        pretty_name=f"Weights of {len(rows)} neural networks",
        tags=["nnit", "neural-network-weights", "nnit-diffusers"],
        size_categories=[next((name for name, size in _SIZE_CATEGORIES.items() if len(rows) < size), "n>1M")],
        configs=[{"config_name": "default", "data_files": "index.parquet"}],
    )
    # summary
    scores = [row["score"] for row in rows if row["score"] is not None]
    parameters = [row["num_parameters"] for row in rows]
    return _CARD.format(
        header=header.to_yaml(),
        num_networks=len(rows),
        tasks=", ".join(sorted({row["task"] for row in rows})),
        num_architectures=len({tuple(row["hidden_sizes"]) for row in rows}),
        min_parameters=min(parameters),
        max_parameters=max(parameters),
        regions=_counts(rows, "region"),
        origins=_counts(rows, "origin"),
        score=f"{sum(scores) / len(scores):.1%} of {len(scores):,}" if scores else "not scored",
    )


def _counts(rows: list[dict[str, Any]], column: str) -> str:
    """The values of a column, with the number of networks of each; only their number if there are many."""
    counts = sorted(Counter(row[column] for row in rows).items())
    if len(counts) > _MAX_LISTED:
        return f"{len(counts):,} different values"
    return ", ".join(f"{value} ({count:,})" for value, count in counts)
