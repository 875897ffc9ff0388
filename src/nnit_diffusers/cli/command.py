"""What all subcommands of `nnit` share: their base class, their report, and checks of the output path."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import arg


# options without a default value: the help then shows neither the type `None` nor `(default: None)`
OptionalInt = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
OptionalStr = Annotated[str | None, arg(metavar="STR", help_behavior_hint="")]


@dataclass(frozen=True)
class Report:
    """The result of a command.

    Parameters:
        payload (`dict[str, Any]`): Printed with `--json`; JSON-ready.
        text (`str`): Printed without `--json`.
        failed (`bool`, defaults to `False`): The command finished, but a requested threshold or check failed.
    """

    payload: dict[str, Any]
    text: str
    failed: bool = False


@dataclass(kw_only=True)
class Command(ABC):
    """Base class of the subcommands; their fields are their options."""

    after_interrupt: ClassVar[str] = "Nothing was written."

    json: bool = False
    """Print the result as JSON."""

    @abstractmethod
    def run(self) -> Report:
        """Runs the command.

        Raises:
            `ValueError`, `OSError`, `ImportError`: If the user can fix the cause.
        """


def check_new_file(path: Path, force: bool) -> None:
    """Raises `ValueError` if `path` is a folder, or an existing file and `force` is not set."""
    if path.is_dir():
        raise ValueError(f"`--output` must be a file, but received the folder {str(path)!r}.")
    if path.exists() and not force:
        raise ValueError(
            f"`--output` must be a new file, but received {str(path)!r}, which exists: add --force to replace it."
        )


def check_new_folder(path: Path, force: bool, marker: str) -> None:
    """Checks that a command may write a folder: it is new or empty, or `force` allows to replace it.

    Parameters:
        path (`Path`): The folder.
        force (`bool`): Allows to replace a folder that holds the `marker`.
        marker (`str`): Name of a file that the command writes into each of its folders.

    Raises:
        `ValueError`: If the folder has other content, or `force` is needed and not set.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / marker).is_file():
        raise ValueError(
            f"`--output` must be a new folder, but received {str(path)!r}, which exists and holds no {marker}: "
            "--force replaces only what this command wrote."
        )
    if not force:
        raise ValueError(
            f"`--output` must be a new folder, but received {str(path)!r}, which exists: add --force to replace it."
        )
