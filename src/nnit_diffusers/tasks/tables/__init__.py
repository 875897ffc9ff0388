"""Tasks of tables: columns are inferred, and rows are split by a fixed hash of their content."""

from .predict import predict_table
from .reading import Table, read_table
from .schema import CategoryColumn, DroppedColumn, NumberColumn, TableSchema, Target
from .splits import split_of_rows
from .task import (
    TableClassificationTask,
    TableRegressionTask,
    TableTask,
    load_table_task,
    table_task_from_spec,
)


__all__ = [
    "CategoryColumn",
    "DroppedColumn",
    "NumberColumn",
    "Table",
    "TableClassificationTask",
    "TableRegressionTask",
    "TableSchema",
    "TableTask",
    "Target",
    "load_table_task",
    "predict_table",
    "read_table",
    "split_of_rows",
    "table_task_from_spec",
]
