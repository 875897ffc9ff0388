"""Fingerprints of a pipeline, stored with results so that those of the same pipeline can be matched."""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Any

import torch

from .pipeline_nnit import NNiTPipeline


def fingerprints(pipe: NNiTPipeline) -> dict[str, str]:
    """What decides which networks a pipeline generates: `weights_sha256` and `sampler_sha256`.

    Both stay the same when the pipeline is saved and loaded.
    """
    return {"weights_sha256": weights_sha256(pipe), "sampler_sha256": sampler_sha256(pipe)}


def weights_sha256(pipe: NNiTPipeline) -> str:
    """SHA-256 of the transformer's weights and of the tokenizer; unchanged if half precision is loaded as float32.

    Hypernetwork and nested slices are not called, and may be left out of a published folder.
    """
    config = {name: value for name, value in pipe.tokenizer.config.items() if not name.startswith("_")}
    for name in ("output_mean", "output_std"):
        # pipelines from before these settings keep their fingerprint
        if config[name] is None:
            del config[name]
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    _add_weights(digest, pipe.transformer)
    return digest.hexdigest()


def sources_sha256(pipe: NNiTPipeline) -> str:
    """SHA-256 of the weights of hypernetwork and nested slices, which an evaluation compares with."""
    digest = hashlib.sha256()
    for component in filter(None, (pipe.ghn, pipe.nested)):
        _add_weights(digest, component)
    return digest.hexdigest()


def _add_weights(digest: Any, component: torch.nn.Module) -> None:
    for key, tensor in sorted(component.state_dict().items()):
        digest.update(key.encode() + tensor.float().cpu().numpy().tobytes())


def sampler_sha256(pipe: NNiTPipeline) -> str:
    """SHA-256 of what samples with those weights: both schedulers, and the widths and depths that may be chosen."""
    sampler = {
        "scheduler": _settings(pipe.scheduler),
        "architecture_scheduler": _settings(pipe.architecture_scheduler),
        **pipe.grid,
    }
    return hashlib.sha256(json.dumps(sampler, sort_keys=True).encode()).hexdigest()


def _settings(scheduler: Any) -> dict[str, Any]:
    """Class of a scheduler, and the public entries of its configuration that differ from the default.

    Defaults are left out because a release of diffusers may add entries, with a default that changes nothing.
    """
    parameters = inspect.signature(type(scheduler).__init__).parameters
    # as it is written to a file, where a tuple is a list
    content = json.loads(scheduler.to_json_string())
    defaults = {name: _default(parameter) for name, parameter in parameters.items()}
    public = {name: value for name, value in content.items() if not name.startswith("_")}
    changed = {name: value for name, value in public.items() if name not in defaults or value != defaults[name]}
    return {"class": type(scheduler).__name__, **changed}


def _default(parameter: inspect.Parameter) -> Any:
    return list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
