"""The contract of networks of a task: what they take and return, read from the task or its environment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from ..contract import IOTerm, NetworkContract
from .base import Task
from .classification import ClassificationTask
from .images import ImageTask
from .simulation.meaning import action_terms, observation_terms, terms_of
from .simulation.task import SimulatorTask
from .specs import published_spec
from .tables import TableTask
from .tables.schema import CategoryColumn


# Characters of a contract as JSON. Longer ones, of tables of thousands of columns, lose their terms.
_MAX_CHARACTERS = 2**20


def contract_of(task: Task) -> NetworkContract:
    """What networks of a task take and return.

    ```python
    network.contract = contract_of(get_task("pickcube"))
    ```

    That of a simulator is read from the real environment, which is made for it if it was not before. Statistics that
    are folded into the weights, a score and the provenance are of a network, and not set here.

    Parameters:
        task ([`Task`]): The task. Inputs and outputs that its layouts do not describe are left out.

    Raises:
        `ValueError`, `ImportError`, `OSError`: If the environment of a simulator can't be made.
    """
    contract = replace(described(task), task_spec=published_spec(task) or {})
    if len(json.dumps(contract.to_dict())) > _MAX_CHARACTERS:
        return replace(contract, observations=(), actions=(), task_spec={})
    return contract


def described(task: Task, num_workers: int | None = None) -> NetworkContract:
    """[`contract_of`] without what the task is made from; with `num_workers` 0, no process is started for it."""
    if isinstance(task, SimulatorTask):
        task._place(num_workers)
        of_environment = task.contract
        return NetworkContract(
            task=task.name,
            observations=observation_terms(of_environment, task.observation_layout),
            actions=action_terms(of_environment, task.action_layout),
            is_discrete=of_environment.is_discrete,
            first_choice=of_environment.first_choice,
            environment=of_environment.environment,
        )
    return NetworkContract(
        task=task.name,
        observations=_complete(_observations(task), task.in_features),
        actions=_complete(terms_of(task.action_layout), task.out_features),
        is_discrete=isinstance(task, ClassificationTask),
    )


def _observations(task: Task) -> tuple[IOTerm, ...]:
    """The inputs of a data set: pixels, the columns of a table, or the layout of another task."""
    if isinstance(task, ImageTask):
        (pixels,) = terms_of(task.observation_layout)
        return (replace(pixels, shape=(task.image_size, task.image_size)),)
    if not isinstance(task, TableTask):
        return terms_of(task.observation_layout)
    terms: list[IOTerm] = []
    for column in task.schema.columns:
        of_column = terms_of(column.layout)
        if isinstance(column, CategoryColumn) and column.categories:
            one_hot = IOTerm(
                column.name, (len(column.categories),), description="one-hot", element_names=column.categories
            )
            of_column = (one_hot, *of_column[1:])
        terms += of_column
    return tuple(terms)


def _complete(terms: Sequence[IOTerm], num_features: int) -> tuple[IOTerm, ...]:
    """The terms, if they describe all of the inputs or outputs."""
    return tuple(terms) if sum(term.size for term in terms) == num_features else ()
