"""Mixins that load our components from the Hub as data only, and push them with cards that name this library."""

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

from .limits import shown
from .local import check_tensors, check_weights, find_folder, read_json_object


LIBRARY_NAME = "nnit-diffusers"
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision")
# Arguments of diffusers that an untrusted configuration could set.
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
    """The default card of a repository.

    Parameters:
        repo_id (`str`): Name of the repository.
        class_name (`str`): The public class that loads it.
    """
    header = ModelCardData(library_name=LIBRARY_NAME, tags=["nnit", "weight-generation"])
    return ModelCard(_CARD.format(header=header.to_yaml(), repo_id=repo_id, class_name=class_name))


class NNiTHubMixin:
    """Mixin for a `ConfigMixin` that is pushed to the Hub and loaded from it; precedes it in the list of bases."""

    @classmethod
    def _dict_from_json_file(cls, json_file: str | os.PathLike[str]) -> dict[str, Any]:
        """Reads a configuration; overrides the method of diffusers.

        Raises:
            `ValueError`: If the file is damaged, or not a configuration of this class.
        """
        config = read_json_object(json_file)
        check_class(json_file, config, cls)
        # complete, and without arguments of diffusers
        parameters = inspect.signature(cls.__init__).parameters
        required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
        missing = [name for name in required if name not in ("self", *config)]
        if missing:
            raise ValueError(f"{str(json_file)!r} must have {missing} for a {cls.__name__}, but lacks them.")
        for name in _MEANT_FOR_DIFFUSERS:
            if name in config:
                raise ValueError(f"{str(json_file)!r} must not set `{name}`, which a {cls.__name__} does not have.")
        # Other private names of diffusers describe the process that wrote the file.
        return {name: value for name, value in config.items() if not name.startswith("_") or name == "_class_name"}

    def _upload_folder(self, working_dir: str | os.PathLike[str], repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """Uploads a folder; overrides the method of diffusers to replace the card that diffusers generates."""
        path = Path(working_dir) / "README.md"
        if path.exists() and ModelCard.load(path).data.library_name != LIBRARY_NAME:
            model_card(repo_id, type(self).__name__).save(path)
        return super()._upload_folder(working_dir, repo_id, *args, **kwargs)  # type: ignore[misc]


class NNiTModelMixin(NNiTHubMixin, ModelMixin):
    """A `ModelMixin` that is loaded only from safetensors, and only if no tensor is missing."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Loads the model from a folder or a Hub repository; takes the arguments of `ModelMixin.from_pretrained`.

        Raises:
            `OSError`: If the model does not exist, or a file of it is missing, truncated or altered.
            `ValueError`: If the configuration is invalid, the weights do not fit it, or `use_safetensors=False`.
        """
        check_safetensors(kwargs.get("use_safetensors"))
        # find or download the configuration and the weights
        subfolder, variant = kwargs.pop("subfolder", None) or "", kwargs.get("variant")
        shards = "*-of-*"
        patterns = (cls.config_name, _index_name(variant), _weights_name(variant), _weights_name(variant, shards))
        folder = find_folder(
            pretrained_model_name_or_path,
            [PurePosixPath(subfolder, pattern).as_posix() for pattern in patterns],
            **{name: kwargs.pop(name) for name in _HUB_OPTIONS if name in kwargs},
        )
        folder = folder / subfolder

        # check both before diffusers loads them
        config = cls._dict_from_json_file(folder / cls.config_name)
        paths = _weights_paths(folder, variant)
        for path in paths:
            check_weights(path)
        if not kwargs.get("ignore_mismatched_sizes"):
            names = inspect.signature(cls.__init__).parameters
            with init_empty_weights():
                model = cls(**{name: config[name] for name in names if name in config})
            check_tensors(paths, {name: tensor.shape for name, tensor in model.state_dict().items()})

        # load
        loaded = super().from_pretrained(folder, **{**kwargs, "use_safetensors": True})
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.register_to_config(_name_or_path=os.fspath(pretrained_model_name_or_path))
        return loaded


def check_class(path: str | os.PathLike[str], config: dict[str, Any], cls: type) -> None:
    """Raises `ValueError` unless the class named in a configuration is `cls` or one of its base classes."""
    received = config.get("_class_name", cls.__name__)
    if received not in [base.__name__ for base in cls.__mro__]:
        raise ValueError(f"{str(path)!r} must be of a {cls.__name__}, but is of {shown(received)}.")


def check_safetensors(use_safetensors: bool | None) -> None:
    """Raises `ValueError` if `use_safetensors` is false."""
    if use_safetensors is not None and not use_safetensors:
        raise ValueError("`use_safetensors` must be True: pickles can run code, and are never loaded.")


def _weights_name(variant: str | None, shard: str = "") -> str:
    stem, extension = SAFETENSORS_WEIGHTS_NAME.rsplit(".", 1)
    return ".".join([stem] + ([variant] if variant else [])) + (f"-{shard}" if shard else "") + f".{extension}"


def _index_name(variant: str | None) -> str:
    return ".".join([SAFETENSORS_WEIGHTS_NAME, "index"] + ([variant] if variant else []) + ["json"])


def _weights_paths(folder: Path, variant: str | None) -> list[Path]:
    """The file of the weights, or all its shards.

    Raises:
        `ValueError`: If the index is invalid, or names a file outside the folder.
    """
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
