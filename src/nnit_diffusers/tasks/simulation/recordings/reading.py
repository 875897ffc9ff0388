"""Reading of recordings of any format."""

from __future__ import annotations

import re
from pathlib import Path

from ....loading.local import find_folder
from ...imitation import DEMONSTRATIONS
from .arrays import read_npz, read_safetensors
from .base import Recording
from .lerobot import INFO_NAME, PATTERNS, read_lerobot
from .maniskill import read_maniskill
from .minari import DATA_NAME, METADATA_NAME, local_dataset, read_minari


FORMATS = (
    "a `.h5` file of ManiSkill, a folder or Hub repository of LeRobot, a folder of Minari or `minari:NAME`, or a "
    "`.npz` or `.safetensors` file of `observations` and `actions`"
)
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def read_recording(
    path: str | Path,
    *,
    env_id: str | None = None,
    control_mode: str | None = None,
    robot_uids: str | None = None,
    only_success: bool = True,
) -> Recording:
    """Reads recorded demonstrations: pairs of an observation and the action taken in it.

    Parameters:
        path (`str` or `Path`): File or folder, `minari:NAME`, or the Hub repository of a data set of LeRobot.
        env_id, control_mode, robot_uids (`str`, *optional*):
            What a recording of ManiSkill has to be of, by default anything. Other formats do not record it.
        only_success (`bool`, defaults to `True`):
            Leave out episodes that are recorded as failed, unless none succeeded.

    Raises:
        `ValueError`: If it is of another format, environment, control mode or robot.
        `OSError`: If a file is missing or damaged, or a repository can't be downloaded.
        `ImportError`: If the format needs a package that is not installed.
    """
    recording = _read(path, env_id, control_mode, robot_uids)
    return recording.successful() if only_success else recording


def _read(path: str | Path, env_id: str | None, control_mode: str | None, robot_uids: str | None) -> Recording:
    name, path = str(path), Path(path)
    if name.startswith("minari:"):
        return read_minari(local_dataset(name.removeprefix("minari:")))
    if path.is_dir():
        return _read_folder(path)
    suffix = path.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        return read_maniskill(path, env_id, control_mode, robot_uids)
    if suffix == ".npz":
        return read_npz(path)
    if suffix == ".safetensors":
        return read_safetensors([path], path)
    if not path.exists() and _REPOSITORY.fullmatch(name):
        return read_lerobot(find_folder(name, PATTERNS, repo_type="dataset"), name)
    if not path.exists() and not suffix:
        raise FileNotFoundError(f"There is no file or folder {name!r}.")
    raise ValueError(f"`demonstrations` must be {FORMATS}, but received {name!r}.")


def _read_folder(folder: Path) -> Recording:
    if (folder / INFO_NAME).is_file():
        return read_lerobot(folder)
    if (folder / DATA_NAME).is_file() or (folder / METADATA_NAME).is_file():
        return read_minari(folder)
    paths = sorted(folder.glob(DEMONSTRATIONS))
    if paths:
        return read_safetensors(paths, folder)
    raise ValueError(f"`demonstrations` must be {FORMATS}, but {str(folder)!r} is none of them.")
