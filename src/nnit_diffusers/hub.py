"""Our components of diffusers and the Hub: what is read is data, what is pushed says which library loads it."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from accelerate import init_empty_weights
from diffusers import ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from huggingface_hub import ModelCard, ModelCardData

from .files import check_tensors, check_weights, find_folder, read_json_object
from .limits import shown


LIBRARY_NAME = "nnit-diffusers"
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision")
# Arguments of diffusers that a configuration could slip in.
_MEANT_FOR_DIFFUSERS = ("dtype", "quantization_config")

_CARD = """---
{header}
---

# {repo_id}

```python
from nnit_diffusers import {class_name}

{class_name}.from_pretrained("{repo_id}")
```

Made with [nnit-diffusers](https://github.com/nnit-diffusers/nnit-diffusers), which generates the weights of MLPs of
any width and depth.
"""


def model_card(repo_id: str, class_name: str) -> ModelCard:
    """The card of a repository that has none of its own.

    Parameters:
        repo_id (`str`): Name of the repository.
        class_name (`str`): The public class that loads it.
    """
    header = ModelCardData(library_name=LIBRARY_NAME, tags=["nnit", "weight-generation"])
    return ModelCard(_CARD.format(header=header.to_yaml(), repo_id=repo_id, class_name=class_name))


class NNiTHubMixin:
    """For a `ConfigMixin` that is pushed to the Hub and loaded from there; goes before it among the bases."""

    @classmethod
    def _dict_from_json_file(cls, json_file: str | os.PathLike) -> dict[str, Any]:
        """What diffusers reads a configuration with.

        Raises:
            `ValueError`: If the file is damaged, or not a configuration of this class.
        """
        config = read_json_object(json_file)
        check_class(json_file, config, cls)
        parameters = inspect.signature(cls.__init__).parameters
        required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
        missing = [name for name in required if name not in ("self", *config)]
        if missing:
            raise ValueError(f"{str(json_file)!r} lacks {missing}, without which there is no {cls.__name__}.")
        for name in _MEANT_FOR_DIFFUSERS:
            if name in config:
                raise ValueError(f"{str(json_file)!r} sets `{name}`, which a {cls.__name__} does not have.")
        # What else diffusers may keep under private names is about the process that wrote it.
        return {name: value for name, value in config.items() if not name.startswith("_") or name == "_class_name"}

    def _upload_folder(self, working_dir: str | os.PathLike, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """What diffusers uploads with; a card that it made up, and that says so, gives way to ours."""
        path = Path(working_dir) / "README.md"
        if path.exists() and ModelCard.load(path).data.library_name != LIBRARY_NAME:
            model_card(repo_id, type(self).__name__).save(path)
        return super()._upload_folder(working_dir, repo_id, *args, **kwargs)  # type: ignore[misc]


class NNiTModelMixin(NNiTHubMixin, ModelMixin):
    """A `ModelMixin` that is loaded whole, and from safetensors alone."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """Loads the model from a folder or a Hub repository; takes what `ModelMixin.from_pretrained` does.

        Raises:
            `OSError`: If there is no such model, or a file of it is missing, truncated or altered.
            `ValueError`: If its configuration asks for what cannot be, its weights are not those that the
                configuration asks for, or `use_safetensors=False`.
        """
        check_safetensors(kwargs.get("use_safetensors"))
        subfolder, variant = kwargs.pop("subfolder", None) or "", kwargs.get("variant")
        shards = "*-of-*"
        patterns = (cls.config_name, _index_name(variant), _weights_name(variant), _weights_name(variant, shards))
        folder = find_folder(
            pretrained_model_name_or_path,
            [PurePosixPath(subfolder, pattern).as_posix() for pattern in patterns],
            **{name: kwargs.pop(name) for name in _HUB_OPTIONS if name in kwargs},
        )
        folder = folder / subfolder
        config = cls._dict_from_json_file(folder / cls.config_name)
        paths = _weights_paths(folder, variant)
        for path in paths:
            check_weights(path)
        if not kwargs.get("ignore_mismatched_sizes"):
            names = inspect.signature(cls.__init__).parameters
            with init_empty_weights():
                model = cls(**{name: config[name] for name in names if name in config})
            check_tensors(paths, {name: tensor.shape for name, tensor in model.state_dict().items()})
        loaded = super().from_pretrained(folder, **{**kwargs, "use_safetensors": True})
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.register_to_config(_name_or_path=os.fspath(pretrained_model_name_or_path))
        return loaded


def check_class(path: str | os.PathLike, config: dict[str, Any], cls: type) -> None:
    """Raises `ValueError` unless a configuration says that it is one of `cls` or of a class that `cls` extends."""
    received = config.get("_class_name", cls.__name__)
    if received not in [base.__name__ for base in cls.__mro__]:
        raise ValueError(f"{str(path)!r} must be of a {cls.__name__}, but is of {shown(received)}.")


def check_safetensors(use_safetensors: bool | None) -> None:
    """Raises `ValueError` if something else is asked for."""
    if use_safetensors is not None and not use_safetensors:
        raise ValueError("`use_safetensors` must be True: pickles can run code, and are never loaded.")


def _weights_name(variant: str | None, shard: str = "") -> str:
    stem, extension = SAFETENSORS_WEIGHTS_NAME.rsplit(".", 1)
    return ".".join([stem] + ([variant] if variant else [])) + (f"-{shard}" if shard else "") + f".{extension}"


def _index_name(variant: str | None) -> str:
    return ".".join([SAFETENSORS_WEIGHTS_NAME, "index"] + ([variant] if variant else []) + ["json"])


def _weights_paths(folder: Path, variant: str | None) -> list[Path]:
    """The file of the weights, or all of them if there are several; `ValueError` if one lies anywhere else."""
    index_path = folder / _index_name(variant)
    if not index_path.is_file():
        return [folder / _weights_name(variant)]
    shard_of = read_json_object(index_path).get("weight_map")
    pattern = re.escape(_weights_name(variant, "@")).replace("@", r"\d{5}-of-\d{5}")
    if not isinstance(shard_of, dict) or not shard_of:
        raise ValueError(f"{str(index_path)!r} must hold a `weight_map`, but holds {shown(shard_of)}.")
    for name in shard_of.values():
        if not isinstance(name, str) or not re.fullmatch(pattern, name):
            raise ValueError(
                f"{str(index_path)!r} must name files like '{_weights_name(variant, '00001-of-00002')}', but names "
                f"{shown(name)}."
            )
    return [folder / name for name in sorted(set(shard_of.values()))]
