"""Settings from JSON or a command line, checked against the types of a configuration."""

from __future__ import annotations

import math
import types
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints


if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def override(config: Config, settings: Mapping[str, Any], name: str) -> Config:
    """A configuration with other values of some fields.

    Parameters:
        config: A dataclass.
        settings (`Mapping[str, Any]`): Values by field, as JSON has them.
        name (`str`): What messages call the configuration.

    Raises:
        `ValueError`: If a field is unknown, or a value has another type.
    """
    types_of = get_type_hints(type(config))
    values = {}
    for field, value in settings.items():
        if field not in types_of:
            raise ValueError(f"A setting of `{name}` must be one of {sorted(types_of)}, but received {field!r}.")
        values[field] = checked(value, types_of[field], f"{name}.{field}")
    return replace(config, **values)


def checked(value: Any, kind: Any, name: str) -> Any:
    """A value of JSON as the type of a field: integers count as numbers, and lists become tuples.

    Raises:
        `ValueError`: If it has another type.
    """
    origin, options = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        for option in options:
            try:
                return checked(value, option, name)
            except ValueError:
                continue
    elif origin is Literal and value in options:
        return value
    elif origin is tuple and isinstance(value, (list, tuple)):
        if options[-1] is Ellipsis or len(options) == len(value):
            inner = options[0]
            return tuple(checked(item, inner, name) for item in value)
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    shown = getattr(kind, "__name__", str(kind)) if origin is None else str(kind).replace("typing.", "")
    raise ValueError(f"`{name}` must be of type {shown}, but received {value!r}.")


def check_ranges(config: DataclassInstance, may_be_zero: Collection[str] = ()) -> None:
    """Checks all numbers of a configuration: integers are positive, and other numbers finite.

    Parameters:
        config: A dataclass.
        may_be_zero (`Collection[str]`): Integers that may be 0.

    Raises:
        `ValueError`: If one of them is not.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        least = 0 if field.name in may_be_zero else 1
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"`{field.name}` must be a finite number, but received {number!r}.")
            if isinstance(number, int) and not isinstance(number, bool) and number < least:
                raise ValueError(f"`{field.name}` must be {least} or more, but received {value!r}.")
