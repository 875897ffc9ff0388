"""Predictions of networks for the rows of a table.

Shape legend: B networks, N rows, I/O inputs and outputs of a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...network_batch import NetworkBatch
from ...networks import Network
from .cells import require_pandas
from .schema import TableSchema


if TYPE_CHECKING:
    from pandas import DataFrame

_ROWS_PER_FORWARD = 1024


@torch.no_grad()
def predict_table(networks: Sequence[Network], schema: TableSchema, frame: DataFrame) -> DataFrame:
    """What networks predict for the rows of a table; of several networks, the mean.

    Parameters:
        networks (`Sequence[Network]`): Networks for tables of this schema.
        schema ([`TableSchema`]): The schema that they were generated for.
        frame (`DataFrame`): The table. The target may be missing, and other columns are ignored.

    Returns:
        `DataFrame`: One row for each of `frame`. A column has the name of the target and holds classes, with their
            probabilities in `<target>_probability`, or numbers.

    Raises:
        `ValueError`: If there is no network, one does not fit the schema or has outputs that are not finite, or the
            table does not fit the schema.
    """
    require_pandas()
    import pandas as pd

    if not networks:
        raise ValueError("`networks` must be one network or more, but received none.")
    batch, inputs_NI = NetworkBatch(networks), schema.encode(frame)
    outputs_NO = torch.cat([_mean_outputs(batch, chunk, schema) for chunk in inputs_NI.split(_ROWS_PER_FORWARD)])
    wrong_N = ~outputs_NO.isfinite().all(dim=1)
    if wrong_N.any():
        row = int(wrong_N.int().argmax()) + 1
        raise ValueError(f"`networks` must have finite outputs, but have others for row {row}.")
    name = schema.target.name
    if schema.target.kind == "numbers":
        return pd.DataFrame({name: outputs_NO[:, 0].numpy()})
    probabilities_N, labels_N = outputs_NO.max(dim=1)
    classes = np.array(schema.target.classes, dtype=object)[labels_N.numpy()]
    return pd.DataFrame({name: classes, f"{name}_probability": probabilities_N.numpy()})


def _mean_outputs(batch: NetworkBatch, inputs_NI: torch.Tensor, schema: TableSchema) -> torch.Tensor:
    """Probabilities of classes, or numbers: `[N, O]`, float64."""
    try:
        outputs_BNO = batch(inputs_NI).double()
    except RuntimeError as error:
        raise ValueError(
            f"`networks` must take {schema.in_features} inputs and have {schema.out_features} outputs by the schema, "
            f"but a network fails: {' '.join(str(error).split())}"
        ) from error
    if outputs_BNO.shape[-1] != schema.out_features:
        raise ValueError(
            f"`networks` must have {schema.out_features} outputs by the schema, but have {outputs_BNO.shape[-1]}."
        )
    if schema.target.kind == "classes":
        outputs_BNO = outputs_BNO.softmax(dim=-1)
    return outputs_BNO.mean(dim=0)
