"""Real components, small enough to build in every test."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from nnit_diffusers.models.graph_hypernetwork import GraphHyperNetwork
from nnit_diffusers.models.nested_mlp import NestedMLP
from nnit_diffusers.models.transformer_nnit import NNiTTransformer
from nnit_diffusers.models.weight_patch_tokenizer import WeightPatchTokenizer
from nnit_diffusers.pipelines import NNiTPipeline
from nnit_diffusers.schedulers import NNiTArchitectureScheduler


IN_FEATURES, OUT_FEATURES = 5, 3
MIN_WIDTH, MAX_WIDTH = 4, 12
MAX_DEPTH, NUM_SLOTS = 3, 4
PATCH_SIZE = 4


def tiny_transformer(**config) -> NNiTTransformer:
    """A transformer whose output depends on all of its inputs."""
    torch.manual_seed(0)
    defaults = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "patch_size": PATCH_SIZE}
    sizes = {"in_features": IN_FEATURES, "out_features": OUT_FEATURES, "max_width": MAX_WIDTH, "max_depth": NUM_SLOTS}
    # By name: diffusers takes positional arguments for defaults, which a copy from the configuration lacks.
    transformer = NNiTTransformer(**{**sizes, **defaults, **config})
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return transformer.eval()


def tiny_tokenizer(**config) -> WeightPatchTokenizer:
    """A tokenizer with observation statistics."""
    defaults = {
        "patch_size": PATCH_SIZE,
        "max_depth": NUM_SLOTS,
        "weight_scale": [0.5, 0.8, 1.5],
        "bias_scale": [0.1, 0.2, 0.3],
        "observation_mean": [0.1 * feature for feature in range(IN_FEATURES)],
        "observation_std": [1.0 + feature for feature in range(IN_FEATURES)],
    }
    return WeightPatchTokenizer(IN_FEATURES, OUT_FEATURES, **{**defaults, **config})


def tiny_ghn(**config) -> GraphHyperNetwork:
    """A GHN of the same task as the transformer."""
    torch.manual_seed(0)
    sizes = {"latent_dim": 4, "node_dim": 8, "num_message_passes": 1, "map_channels": 4, "num_convolutions": 1}
    return GraphHyperNetwork(
        IN_FEATURES, OUT_FEATURES, max_width=MAX_WIDTH, num_templates=2, upsampling=4, **{**sizes, **config}
    ).eval()


def tiny_nested() -> NestedMLP:
    """Nested slices of the same task."""
    torch.manual_seed(0)
    return NestedMLP(IN_FEATURES, OUT_FEATURES, max_width=MAX_WIDTH, max_depth=MAX_DEPTH).eval()


def tiny_components(ghn: bool = False) -> dict:
    """Arguments of an `NNiTPipeline`, with its GHN and nested slices or without both."""
    return {
        "transformer": tiny_transformer(),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "architecture_scheduler": NNiTArchitectureScheduler(),
        "tokenizer": tiny_tokenizer(),
        "ghn": tiny_ghn() if ghn else None,
        "nested": tiny_nested() if ghn else None,
        "min_width": MIN_WIDTH,
        "max_depth": MAX_DEPTH,
    }


def tiny_pipeline(ghn: bool = False) -> NNiTPipeline:
    """A pipeline without a progress bar."""
    pipeline = NNiTPipeline(**tiny_components(ghn))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
