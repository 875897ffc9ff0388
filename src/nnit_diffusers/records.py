"""Typed records of JSON that may come from anyone: every field is checked, and unknown keys are kept."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from .loading.limits import MAX_WIDTH, check_number, shown


MAX_TEXT = 2000
"""Characters of one text of a record."""
MAX_OBJECT = 2**22
"""Characters of a free-form object of a record, as JSON."""
_MAX_NUMBER = 2.0**127
_KINDS: dict[Any, dict[str, Any]] = {}


@dataclass(frozen=True)
class Record:
    """Base of frozen dataclasses that are written as JSON, and read from untrusted JSON.

    Every field is checked by its type, whether it comes from Python or from a file. Types are `str`, `int`, `float`,
    `bool`, tuples of these, `Mapping[str, Any]`, other records, and each of them or `None`.

    Parameters:
        extras (`Mapping[str, Any]`, defaults to `{}`):
            Keys of a file that this version does not know; they are written again.

    Attributes:
        title (`str`): What messages call the record.

    Raises:
        `ValueError`: If a field has another type, is too long, or is not finite.
    """

    extras: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    title: ClassVar[str] = "record"

    def __post_init__(self) -> None:
        for name, kind in _kinds(type(self)).items():
            object.__setattr__(self, name, _checked(f"{self.title}.{name}", getattr(self, name), kind))
        clash = sorted(self.extras.keys() & (_kinds(type(self)).keys() - {"extras"}))
        if clash:
            raise ValueError(f"`{self.title}.extras` must hold other keys than the fields, but received {clash}.")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, without fields that are empty; the inverse of `from_dict`."""
        known = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "extras"}
        given = {name: _plain(value) for name, value in known.items() if value not in (None, (), {})}
        return {**given, **self.extras}

    @classmethod
    def from_dict(cls, content: Any) -> Self:
        """The inverse of `to_dict`, of an object that may come from anyone.

        Raises:
            `ValueError`: If a field is missing, has another type, is too long, or does not fit the others.
        """
        if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
            raise ValueError(f"`{cls.title}` must be a JSON object, but received {shown(content)}.")
        names = {each.name for each in fields(cls)} - {"extras"}
        try:
            return cls(
                **{name: value for name, value in content.items() if name in names},
                extras={name: value for name, value in content.items() if name not in names},
            )
        except TypeError as error:  # a required field is missing
            raise ValueError(f"`{cls.title}` must have all required fields: {error}.") from error


def _kinds(cls: type[Record]) -> dict[str, Any]:
    """Types of the fields of a record, resolved once."""
    if cls not in _KINDS:
        hints = get_type_hints(cls)
        _KINDS[cls] = {each.name: hints[each.name] for each in fields(cls)}
    return _KINDS[cls]


def _checked(name: str, value: Any, kind: Any) -> Any:
    """A value as the type of its field: lists become tuples, objects records, and integers numbers.

    Raises:
        `ValueError`: If it has another type, is too long, or is not finite.
    """
    origin, options = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _checked(name, value, options[0])
    if origin is tuple:
        wanted = None if options[-1] is Ellipsis else len(options)
        if not isinstance(value, (list, tuple)) or len(value) > MAX_WIDTH or wanted not in (None, len(value)):
            most = f"{wanted} entries" if wanted else f"at most {MAX_WIDTH:,} entries"
            raise ValueError(f"`{name}` must be a list of {most}, but received {shown(value)}.")
        return tuple(_checked(name, item, options[0]) for item in value)
    if origin is not None:  # a mapping of anything that JSON has
        return _checked_object(name, value)
    if is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else kind.from_dict(value)  # type: ignore[attr-defined]
    if kind is float:
        return float(check_number(name, value, -_MAX_NUMBER, _MAX_NUMBER))
    is_kind = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if is_kind and (kind is not int or abs(value) < 2**64) and (kind is not str or len(value) <= MAX_TEXT):
        return value
    words = {str: f"a text of at most {MAX_TEXT} characters", int: "an integer below 2**64", bool: "true or false"}
    raise ValueError(f"`{name}` must be {words[kind]}, but received {shown(value)}.")


def _checked_object(name: str, value: Any) -> dict[str, Any]:
    """A copy of an object of plain JSON."""
    problem = f"`{name}` must be a JSON object of at most {MAX_OBJECT:,} characters, but received {shown(value)}."
    if not isinstance(value, Mapping):
        raise ValueError(problem)
    try:
        text = json.dumps(dict(value), allow_nan=False)
        copied: dict[str, Any] = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(problem) from error
    if len(text) > MAX_OBJECT or copied.keys() != dict(value).keys():
        raise ValueError(problem)
    return copied


def _plain(value: Any) -> Any:
    """A field as JSON has it."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
