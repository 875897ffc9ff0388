"""Fingerprint of a pipeline, stored with results so that those of the same pipeline can be matched."""

from __future__ import annotations

import hashlib
import json

from .pipeline_nnit import NNiTPipeline


def fingerprint(pipe: NNiTPipeline) -> str:
    """SHA-256 of all weights, GHN included, and of the tokenizer; unchanged if half precision is loaded as float32."""
    config = {name: value for name, value in pipe.tokenizer.config.items() if not name.startswith("_")}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for component in filter(None, (pipe.transformer, pipe.ghn)):
        for key, tensor in sorted(component.state_dict().items()):
            digest.update(key.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
