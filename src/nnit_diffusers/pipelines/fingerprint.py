"""What tells whether two figures are of the same pipeline."""

from __future__ import annotations

import hashlib
import json

from .pipeline_nnit import NNiTPipeline


def fingerprint(pipe: NNiTPipeline) -> str:
    """Hash of all weights, GHN included, and of the tokenizer; the same in half precision and in float32."""
    config = {name: value for name, value in pipe.tokenizer.config.items() if not name.startswith("_")}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for component in filter(None, (pipe.transformer, pipe.ghn)):
        for key, tensor in sorted(component.state_dict().items()):
            digest.update(key.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
