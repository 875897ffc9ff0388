"""Pipelines from folders and the Hub: what one is made of is checked before any of it is loaded."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import diffusers
from huggingface_hub.errors import RemoteEntryNotFoundError

from ..files import read_json_object, unavailable
from ..hub import NNiTHubMixin, check_class, check_safetensors
from ..limits import MAX_TIMESTEPS, check_number, check_size, shown
from ..registration import LIBRARY


COMPONENT_CLASSES = {
    "transformer": "NNiTTransformer",
    "architecture_scheduler": "NNiTArchitectureScheduler",
    "tokenizer": "WeightPatchTokenizer",
    "ghn": "GraphHyperNetwork",
}
"""Our components, by their names in the pipeline; `scheduler` is one of diffusers."""
# What `DiffusionPipeline.from_pretrained(id, custom_pipeline=id, trust_remote_code=True)` looks for in a repository.
PIPELINE_FILE_NAME = "pipeline.py"
PIPELINE_FILE = "from nnit_diffusers import NNiTPipeline  # noqa: F401\n"
_CONFIG_NAMES = {
    "transformer": "config.json",
    "scheduler": "scheduler_config.json",
    "architecture_scheduler": "scheduler_config.json",
    "tokenizer": "tokenizer_config.json",
    "ghn": "config.json",
}


class SafePipeline(NNiTHubMixin, diffusers.DiffusionPipeline):
    """A `DiffusionPipeline` that is loaded from safetensors and JSON alone."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """Loads a pipeline from a folder or a Hub repository; takes what `DiffusionPipeline.from_pretrained` does.

        Raises:
            `OSError`: If there is no such pipeline, no access to it, no network and nothing cached, or a file of it
                is missing, truncated or altered.
            `ValueError`: If it is another pipeline, a configuration asks for what cannot be, components do not fit
                together, there is no such variant, or `use_safetensors=False`.
        """
        check_safetensors(kwargs.get("use_safetensors"))
        # diffusers takes the path of a folder, but not of one that is not there.
        name_or_path = os.fspath(pretrained_model_name_or_path)
        if os.path.isdir(name_or_path):
            index = cls.load_config(name_or_path)
            check_components(name_or_path, index, kwargs)
        return super().from_pretrained(name_or_path, **{**kwargs, "use_safetensors": True})

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs: Any) -> Any:
        """Downloads a pipeline and checks what it is made of; takes what `DiffusionPipeline.download` does.

        Raises:
            `OSError`, `ValueError`: See [`~NNiTPipeline.from_pretrained`].
        """
        check_safetensors(kwargs.get("use_safetensors"))
        try:
            folder = super().download(pretrained_model_name, **{**kwargs, "use_safetensors": True})
        except RemoteEntryNotFoundError as error:
            raise OSError(
                f"{pretrained_model_name!r} on the Hub is no {cls.__name__}: it has no {cls.config_name}. Its card "
                "says what loads it."
            ) from error
        except OSError as error:
            # diffusers says what happened to the stack trace alone.
            if error.__cause__ is None:
                raise
            raise unavailable(pretrained_model_name, error.__cause__) from error
        check_components(folder, cls.load_config(folder), kwargs)
        return folder

    @classmethod
    def _dict_from_json_file(cls, json_file: str | os.PathLike) -> dict[str, Any]:
        return read_model_index(json_file, cls)

    def _upload_folder(self, working_dir: str | os.PathLike, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        Path(working_dir, PIPELINE_FILE_NAME).write_text(PIPELINE_FILE, encoding="utf-8")
        return super()._upload_folder(working_dir, repo_id, *args, **kwargs)


def check_fit(transformer: Any, tokenizer: Any, ghn: Any) -> None:
    """Raises `ValueError` if the components, as far as they are there, are not of one task and one tokenization."""
    pairs = (
        ("transformer", transformer, ("in_features", "out_features", "max_depth", "patch_size")),
        ("ghn", ghn, ("in_features", "out_features", "activation")),
    )
    for component, model, names in pairs:
        for name in names if model is not None and tokenizer is not None else ():
            if model.config[name] != tokenizer.config[name]:
                raise ValueError(
                    f"`{component}` must have the `{name}` of the `tokenizer`, {tokenizer.config[name]!r}, but has "
                    f"{model.config[name]!r}."
                )


def read_model_index(path: str | os.PathLike, cls: Any) -> dict[str, Any]:
    """What `model_index.json` says of a pipeline of class `cls`, and nothing that such a pipeline does not have.

    Raises:
        `OSError`: If there is none.
        `ValueError`: If it is damaged, or of another pipeline, or names components that are neither ours nor
            schedulers of diffusers.
    """
    index = read_json_object(path)
    if "_class_name" not in index:
        raise ValueError(f"{str(path)!r} must be of a {cls.__name__}, but does not say what it is of.")
    check_class(path, index, cls)
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
    known = ("_class_name", *inspect.signature(cls.__init__).parameters)
    return {name: value for name, value in index.items() if name in known}


def check_components(folder: str | os.PathLike, index: dict[str, Any], passed: Collection[str]) -> None:
    """Raises an error if a component that `index` names is missing, or a scheduler cannot be.

    Parameters:
        folder (`str` or `Path`): Folder of the pipeline.
        index (`dict[str, Any]`): See [`read_model_index`].
        passed (`Collection[str]`): Components that are not loaded from there.

    Raises:
        `OSError`: If the configuration of a component is missing.
        `ValueError`: If the scheduler's is damaged, or asks for what cannot be.
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
    """The class of diffusers that a model index names, or `None` if that is no scheduler of diffusers."""
    if not isinstance(received, list) or len(received) != 2 or received[0] != "diffusers":
        return None
    found = getattr(diffusers, received[1], None) if isinstance(received[1], str) else None
    return found if inspect.isclass(found) and issubclass(found, diffusers.SchedulerMixin) else None


def _check_scheduler(path: Path, scheduler_class: Any) -> None:
    """Holds a configuration against the scheduler's defaults: a scheduler takes memory for every timestep."""
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
