"""What was found in a table, in lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from ..base import DATA_SPLITS
from .schema import CategoryColumn, NumberColumn, TableSchema, Target


# The most frequent class has this many times the rows of the rarest one where classes are called imbalanced.
_IMBALANCED = 3
_MOST_LISTED = 8


def describe_rows(name: str, split: np.ndarray, num_without_target: int, target: str) -> list[str]:
    """Rows and sizes of the splits."""
    sizes = ", ".join(f"{(split == each).sum():,} for {each}" for each in DATA_SPLITS)
    lines = [f"{name}: {_counted(len(split), 'row')} ({sizes})"]
    if num_without_target:
        lines.append(f"  left out: {_counted(num_without_target, 'row')} without {target!r}")
    return lines


def describe_columns(schema: TableSchema, num_missing: Mapping[str, int]) -> list[str]:
    """Types of the columns, missing cells of training, and the columns that are dropped."""
    numbers = [each.name for each in schema.columns if isinstance(each, NumberColumn) and not each.is_date]
    dates = [each.name for each in schema.columns if isinstance(each, NumberColumn) and each.is_date]
    categories = [
        f"{each.name} ({len(each.categories)})" if each.categories else f"{each.name} (only whether it is missing)"
        for each in schema.columns
        if isinstance(each, CategoryColumn)
    ]
    shifted = [
        f"{each.name} - {each.offset:.10g}"
        for each in schema.columns
        if isinstance(each, NumberColumn) and each.offset and not each.is_date
    ]
    missing = [f"{each.name} ({num_missing[each.name]:,})" for each in schema.columns if each.name in num_missing]
    groups = (
        ("numbers", numbers),
        ("dates, in days", dates),
        ("categories, one-hot", categories),
        ("far from zero, shifted", shifted),
        ("missing in training, filled and marked", missing),
    )
    lines = [f"  {title}: {_listed(names)}" for title, names in groups if names]
    dropped = [f"  dropped: {each.name} ({each.reason})" for each in schema.dropped[:_MOST_LISTED]]
    if len(schema.dropped) > _MOST_LISTED:
        dropped.append(f"  dropped: {len(schema.dropped) - _MOST_LISTED} more columns")
    return [*lines, *dropped, f"  inputs of a network: {schema.in_features}"]


def describe_target(target: Target, targets: Mapping[str, torch.Tensor]) -> list[str]:
    """Shares of the classes, or the statistics of the numbers, from the targets of every split."""
    if target.kind == "numbers":
        train = targets["train"].double()
        mean, std = train.mean().item(), train.std(correction=0).item()
        extent = f"{train.min().item():.6g}…{train.max().item():.6g}"
        return [f"  target {target.name}: a number; in training mean {mean:.6g}, std {std:.6g}, range {extent}"]
    counts = {split: labels.bincount(minlength=target.size).tolist() for split, labels in targets.items()}
    lines = [f"  target {target.name}: {target.size} classes"]
    for index, name in list(enumerate(target.classes))[: 2 * _MOST_LISTED]:
        shares = ", ".join(f"{counts[split][index] / sum(counts[split]):.1%} of {split}" for split in DATA_SPLITS)
        lines.append(f"    {name}: {shares}")
    if target.size > 2 * _MOST_LISTED:
        lines.append(f"    and {target.size - 2 * _MOST_LISTED} more")
    return [*lines, *_warnings(target, counts)]


def _warnings(target: Target, counts: Mapping[str, Sequence[int]]) -> list[str]:
    """Classes that are frequent, rare, or in no row of a split."""
    train = counts["train"]
    most, least = int(np.argmax(train)), int(np.argmin(train))
    lines = [f"  always answering {target.classes[most]!r}: accuracy {train[most] / sum(train):.1%} in training"]
    if train[most] >= _IMBALANCED * train[least]:
        lines.append(
            f"  imbalanced: {target.classes[least]!r} has {_counted(train[least], 'row')} for training, "
            f"{target.classes[most]!r} {train[most]:,}; see balanced_accuracy beside the accuracy"
        )
    for split in ("validation", "test"):
        absent = [name for name, count in zip(target.classes, counts[split]) if count == 0]
        if absent:
            lines.append(f"  warning: no row for {split} of {_listed(absent)}")
    return lines


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
