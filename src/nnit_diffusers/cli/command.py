"""What all commands share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import arg


# Options that may be left out, without "None" all over the help.
OptionalInt = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
OptionalStr = Annotated[str | None, arg(metavar="STR", help_behavior_hint="")]


@dataclass(frozen=True)
class Report:
    """The result of a command.

    Parameters:
        payload (`dict[str, Any]`): For machines; JSON-ready.
        text (`str`): For people.
        failed (`bool`, defaults to `False`): The command did its work, and the result is not what was asked for.
    """

    payload: dict[str, Any]
    text: str
    failed: bool = False


@dataclass(kw_only=True)
class Command(ABC):
    """A subcommand: its fields are its options."""

    after_interrupt: ClassVar[str] = "Nothing was written."

    json: bool = False
    """Print the result as JSON."""

    @abstractmethod
    def run(self) -> Report:
        """Does it.

        Raises:
            `ValueError`, `OSError`, `ImportError`: For what the user can mend.
        """


def check_new_file(path: Path, force: bool) -> None:
    """Raises `ValueError` if a file would be overwritten that nobody said may be."""
    if path.is_dir():
        raise ValueError(f"`--output` must be a file, but received the folder {str(path)!r}.")
    if path.exists() and not force:
        raise ValueError(f"`--output` must be a new file, but received {str(path)!r}, which exists: add --force.")


def check_new_folder(path: Path, force: bool, written_by_us: str) -> None:
    """Raises `ValueError` if a folder would be overwritten that nobody said may be, or that holds something else.

    Parameters:
        path (`Path`): The folder.
        force (`bool`): What this command wrote there may be replaced.
        written_by_us (`str`): Name of the file by which such a folder is known.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / written_by_us).is_file():
        raise ValueError(
            f"`--output` must be a new folder, but received {str(path)!r}, which exists and holds no {written_by_us}: "
            "it is left alone."
        )
    if not force:
        raise ValueError(f"`--output` must be a new folder, but received {str(path)!r}, which exists: add --force.")
