import json

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from nnit_diffusers import NNiTPipeline, NNiTTransformer, WeightPatchTokenizer, get_task
from nnit_diffusers.schedulers import NNiTArchitectureScheduler


@pytest.fixture(scope="session")
def pushcube_folder(tmp_path_factory):
    """An untrained pipeline of a robot task."""
    task = get_task("pushcube")
    folder = tmp_path_factory.mktemp("nnit") / "pushcube"
    torch.manual_seed(0)
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "patch_size": 4}
    scales = {"weight_scale": [0.1] * 3, "bias_scale": [0.1] * 3}
    statistics = {"observation_mean": [0.0] * task.in_features, "observation_std": [1.0] * task.in_features}
    pipe = NNiTPipeline(
        NNiTTransformer(task.in_features, task.out_features, max_width=32, max_depth=3, **sizes),
        FlowMatchEulerDiscreteScheduler(),
        NNiTArchitectureScheduler(),
        WeightPatchTokenizer(task.in_features, task.out_features, patch_size=4, max_depth=3, **scales, **statistics),
        min_width=16,
    )
    pipe.save_pretrained(folder)
    (folder / "evaluation.json").write_text(json.dumps({"settings": {"task": "pushcube"}}))
    return folder
