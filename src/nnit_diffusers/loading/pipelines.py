"""Loads pipelines from folders and the Hub; components are checked before any of them is loaded."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import diffusers
from huggingface_hub.errors import RemoteEntryNotFoundError

from .hub import NNiTHubMixin, check_class, check_safetensors
from .limits import MAX_TIMESTEPS, check_number, check_size, shown
from .local import read_json_object, unavailable
from .registration import LIBRARY


COMPONENT_CLASSES = {
    "transformer": "NNiTTransformer",
    "architecture_scheduler": "NNiTArchitectureScheduler",
    "tokenizer": "WeightPatchTokenizer",
    "ghn": "GraphHyperNetwork",
    "nested": "NestedMLP",
}
"""Classes of this library by the names of their components; `scheduler` is a class of diffusers."""
# The file that `DiffusionPipeline.from_pretrained(id, custom_pipeline=id, trust_remote_code=True)` runs.
PIPELINE_FILE_NAME = "pipeline.py"
PIPELINE_FILE = "from nnit_diffusers import NNiTPipeline  # noqa: F401\n"
_CONFIG_NAMES = {
    "transformer": "config.json",
    "scheduler": "scheduler_config.json",
    "architecture_scheduler": "scheduler_config.json",
    "tokenizer": "tokenizer_config.json",
    "ghn": "config.json",
    "nested": "config.json",
}


class SafePipeline(NNiTHubMixin, diffusers.DiffusionPipeline):
    """A `DiffusionPipeline` that loads only safetensors and JSON, never a pickle."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Loads a pipeline from a folder or the Hub; takes the arguments of `DiffusionPipeline.from_pretrained`.

        Raises:
            `OSError`: If the pipeline does not exist, is not accessible, or is not cached and the Hub is unreachable;
                or if one of its files is missing, truncated or altered.
            `ValueError`: If it is another kind of pipeline, a configuration is invalid, components do not fit
                together, the variant does not exist, or `use_safetensors=False`.
        """
        check_safetensors(kwargs.get("use_safetensors"))
        # diffusers accepts a `Path` only if the folder exists.
        name_or_path = os.fspath(pretrained_model_name_or_path)
        if os.path.isdir(name_or_path):
            index = cls.load_config(name_or_path)
            check_components(name_or_path, index, kwargs)
        return super().from_pretrained(name_or_path, **{**kwargs, "use_safetensors": True})

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs: Any) -> Any:
        """Downloads a pipeline and checks its components; takes the arguments of `DiffusionPipeline.download`.

        Raises:
            `OSError`, `ValueError`: See [`~NNiTPipeline.from_pretrained`].
        """
        check_safetensors(kwargs.get("use_safetensors"))
        try:
            folder = super().download(pretrained_model_name, **{**kwargs, "use_safetensors": True})
        except RemoteEntryNotFoundError as error:
            raise OSError(
                f"{pretrained_model_name!r} on the Hub is no {cls.__name__}: it has no {cls.config_name}. See "
                "its model card for how to load it."
            ) from error
        except OSError as error:
            # diffusers reports the reason only as the cause of its error
            if error.__cause__ is None:
                raise
            raise unavailable(pretrained_model_name, error.__cause__) from error
        check_components(folder, cls.load_config(folder), kwargs)
        return folder

    @classmethod
    def _dict_from_json_file(cls, json_file: str | os.PathLike[str]) -> dict[str, Any]:
        return read_model_index(json_file, cls)

    def _upload_folder(self, working_dir: str | os.PathLike[str], repo_id: str, *args: Any, **kwargs: Any) -> Any:
        Path(working_dir, PIPELINE_FILE_NAME).write_text(PIPELINE_FILE, encoding="utf-8")
        return super()._upload_folder(working_dir, repo_id, *args, **kwargs)


def check_fit(transformer: Any, tokenizer: Any, ghn: Any, nested: Any = None) -> None:
    """Raises `ValueError` if those components that are present differ in task or tokenization."""
    pairs = (
        ("transformer", transformer, ("in_features", "out_features", "max_depth", "patch_size")),
        ("ghn", ghn, ("in_features", "out_features", "activation")),
        ("nested", nested, ("in_features", "out_features", "activation")),
    )
    for component, model, names in pairs:
        for name in names if model is not None and tokenizer is not None else ():
            if model.config[name] != tokenizer.config[name]:
                raise ValueError(
                    f"`{component}` must have the `{name}` of the `tokenizer`, {tokenizer.config[name]!r}, but has "
                    f"{model.config[name]!r}."
                )
    if transformer is not None and ghn is not None:
        of_each = [_task_names(model) for model in (transformer, ghn)]
        if of_each[0] != of_each[1]:
            raise ValueError(
                f"`ghn` must have the `task_names` of the `transformer`, {shown(of_each[0])}, but has "
                f"{shown(of_each[1])}."
            )


def _task_names(model: Any) -> list[str] | None:
    """Names of the tasks of a model, a list whatever sequence it was made with."""
    names = model.config.task_names
    return None if names is None else list(names)


def read_model_index(path: str | os.PathLike[str], cls: Any) -> dict[str, Any]:
    """Reads the `model_index.json` of a pipeline of class `cls`, without entries that the class does not have.

    Raises:
        `OSError`: If the file does not exist.
        `ValueError`: If it is damaged, of another class, or names a component that is neither a class of this library
            nor a scheduler of diffusers.
    """
    index = read_json_object(path)
    if "_class_name" not in index:
        raise ValueError(f"{str(path)!r} must be of a {cls.__name__}, but has no `_class_name`.")
    check_class(path, index, cls)
    # components must have their expected classes
    for name in _CONFIG_NAMES:
        received = index.get(name, [None, None])
        if received == [None, None]:
            continue
        if name == "scheduler":
            allowed, found = "a scheduler of diffusers", _scheduler_class(received) is not None
        else:
            allowed, found = f"{[LIBRARY, COMPONENT_CLASSES[name]]}", received == [LIBRARY, COMPONENT_CLASSES[name]]
        if not found:
            raise ValueError(f"`{name}` of {str(path)!r} must be {allowed}, but is {shown(received)}.")
    # drop unknown entries
    known = ("_class_name", *inspect.signature(cls.__init__).parameters)
    return {name: value for name, value in index.items() if name in known}


def check_components(folder: str | os.PathLike[str], index: dict[str, Any], passed: Collection[str]) -> None:
    """Checks that the components named by `index` exist, and that the scheduler's configuration is valid.

    Parameters:
        folder (`str` or `Path`): Folder of the pipeline.
        index (`dict[str, Any]`): See [`read_model_index`].
        passed (`Collection[str]`): Components that the caller passes, so that they are not loaded from the folder.

    Raises:
        `OSError`: If the configuration of a component is missing.
        `ValueError`: If the scheduler's configuration is damaged or out of range.
    """
    for name, config_name in _CONFIG_NAMES.items():
        if name in passed or index.get(name, [None, None]) == [None, None]:
            continue
        path = Path(folder) / name / config_name
        if not path.is_file():
            raise FileNotFoundError(f"The pipeline in {str(folder)!r} lacks its {name}: there is no {str(path)!r}.")
        if name == "scheduler":
            _check_scheduler(path, _scheduler_class(index[name]))


def _scheduler_class(received: Any) -> Any:
    """The scheduler class that a model index names, or `None` if it is not a scheduler of diffusers."""
    if not isinstance(received, list) or len(received) != 2 or received[0] != "diffusers":
        return None
    found = getattr(diffusers, received[1], None) if isinstance(received[1], str) else None
    return found if inspect.isclass(found) and issubclass(found, diffusers.SchedulerMixin) else None


def _check_scheduler(path: Path, scheduler_class: Any) -> None:
    """Checks types and ranges of a scheduler's configuration; a scheduler allocates memory for every timestep."""
    config = read_json_object(path)
    for name, parameter in inspect.signature(scheduler_class.__init__).parameters.items():
        default, value = parameter.default, config.get(name, parameter.default)
        if name == "num_train_timesteps":
            check_size(name, value, MAX_TIMESTEPS)
        elif name in config and isinstance(default, (bool, str)):
            if type(value) is not type(default):
                raise ValueError(f"`{name}` of {str(path)!r} must be like {default!r}, but is {shown(value)}.")
        elif name in config and value is not None:
            check_number(name, value, -MAX_TIMESTEPS, MAX_TIMESTEPS)
