"""What diffusers' own tests expect of every pipeline: saving, loading, precision, offloading hooks, caches, LoRA."""

import inspect
import json
import logging
from pathlib import Path

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    FirstBlockCacheConfig,
    FlowMatchEulerDiscreteScheduler,
    PyramidAttentionBroadcastConfig,
)
from peft import LoraConfig
from safetensors.torch import load_file
from tiny import MAX_DEPTH, MIN_WIDTH, tiny_components, tiny_pipeline

from nnit_diffusers import NNiTPipeline


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def vectors(pipeline, arch=(9, 7), **kwargs):
    generator = torch.Generator().manual_seed(0)
    kwargs = {"generator": generator, "num_inference_steps": 3, "output_type": "pt", **kwargs}
    return pipeline(list(arch) if arch else None, **kwargs)[0]


def test_the_call_has_the_usual_arguments_of_diffusers():
    defaults = {name: p.default for name, p in inspect.signature(NNiTPipeline.__call__).parameters.items()}
    known = {"num_inference_steps": None, "generator": None, "latents": None, "return_dict": True}
    assert {name: defaults[name] for name in known} == known
    assert {"output_type", "callback_on_step_end", "callback_on_step_end_tensor_inputs"} <= set(defaults)


# Saving and loading


def test_a_saved_pipeline_gives_the_same_networks(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = NNiTPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(vectors(loaded), vectors(pipeline))
    assert torch.equal(vectors(loaded, None, num_networks=4), vectors(pipeline, None, num_networks=4))
    assert (loaded.config.min_width, loaded.config.max_depth) == (MIN_WIDTH, MAX_DEPTH)
    for name in ("patch_size", "max_depth", "weight_scale", "bias_scale", "observation_mean", "observation_std"):
        assert loaded.tokenizer.config[name] == pipeline.tokenizer.config[name]
    assert loaded.ghn is None


def test_a_pipeline_has_its_own_number_of_steps(tmp_path):
    pipe = tiny_pipeline()
    assert torch.equal(vectors(pipe, num_inference_steps=None), vectors(pipe, num_inference_steps=20))
    pipe.register_to_config(default_num_inference_steps=2)
    pipe.save_pretrained(tmp_path)
    loaded = NNiTPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(vectors(loaded, num_inference_steps=None), vectors(pipe, num_inference_steps=2))
    assert not torch.equal(vectors(loaded, num_inference_steps=None), vectors(pipe, num_inference_steps=20))
    with pytest.raises(ValueError, match="`default_num_inference_steps` must be an integer of 1"):
        NNiTPipeline(**tiny_components(), default_num_inference_steps=0)


def test_components_are_saved_under_their_public_names(tmp_path):
    tiny_pipeline(ghn=True).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert {name: entry for name, entry in index.items() if isinstance(entry, list)} == {
        "transformer": ["nnit_diffusers", "NNiTTransformer"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "architecture_scheduler": ["nnit_diffusers", "NNiTArchitectureScheduler"],
        "tokenizer": ["nnit_diffusers", "WeightPatchTokenizer"],
        "ghn": ["nnit_diffusers", "GraphHyperNetwork"],
        "nested": ["nnit_diffusers", "NestedMLP"],
    }
    assert not list(tmp_path.rglob("*.py"))


@pytest.mark.parametrize("name", ["ghn", "nested"])
def test_the_models_that_it_was_trained_with_are_optional(tmp_path, name):
    complete = tiny_pipeline(ghn=True)
    complete.save_pretrained(tmp_path)
    loaded = getattr(NNiTPipeline.from_pretrained(tmp_path), name).state_dict()
    assert all(torch.equal(tensor, loaded[key]) for key, tensor in getattr(complete, name).state_dict().items())
    assert getattr(NNiTPipeline.from_pretrained(tmp_path, **{name: None}), name) is None


def test_a_half_precision_checkpoint_loads_in_float32(tmp_path):
    half = tiny_pipeline(ghn=True).to(torch.float16)
    half.save_pretrained(tmp_path)
    assert {t.dtype for t in load_file(tmp_path / "transformer/diffusion_pytorch_model.safetensors").values()} == {
        torch.float16
    }
    loaded = NNiTPipeline.from_pretrained(tmp_path)
    for model in (loaded.transformer, loaded.ghn):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    loaded_as_half = NNiTPipeline.from_pretrained(tmp_path, dtype=torch.float16)
    assert loaded_as_half.transformer.dtype == torch.float16
    assert torch.isfinite(vectors(loaded_as_half)).all()


def test_a_variant_is_saved_and_loaded_by_its_name(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "transformer/diffusion_pytorch_model.fp16.safetensors").exists()
    assert torch.equal(vectors(NNiTPipeline.from_pretrained(tmp_path, variant="fp16")), vectors(pipeline))


def test_a_component_passed_to_from_pretrained_is_used(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    loaded = NNiTPipeline.from_pretrained(tmp_path, scheduler=scheduler, transformer=pipeline.transformer)
    assert loaded.scheduler is scheduler and loaded.transformer is pipeline.transformer
    assert not torch.equal(vectors(loaded), vectors(pipeline))


def test_loading_causes_no_warnings(pipeline, tmp_path, caplog):
    pipeline.save_pretrained(tmp_path)
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    try:
        NNiTPipeline.from_pretrained(tmp_path)
    finally:
        logger.removeHandler(caplog.handler)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_another_pipeline_is_built_from_the_same_components(pipeline):
    again = NNiTPipeline(**pipeline.components, **pipeline.parameters)
    assert torch.equal(vectors(again), vectors(pipeline))
    from_pipe = NNiTPipeline.from_pipe(pipeline)
    assert from_pipe.transformer is pipeline.transformer
    assert from_pipe.config.min_width == MIN_WIDTH


def test_the_default_maximum_depth_is_that_of_the_tokenizer():
    components = tiny_components()
    del components["min_width"], components["max_depth"]
    pipe = NNiTPipeline(**components)
    pipe.set_progress_bar_config(disable=True)
    (space,) = pipe.prepare_spaces(None)
    assert (space.min_width, space.max_depth) == (1, pipe.tokenizer.config.max_depth)


# Caches, LoRA, precision


@pytest.mark.parametrize(
    "config",
    [
        FirstBlockCacheConfig(threshold=1e-6),
        PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            spatial_attention_timestep_skip_range=(0, 1001),
            spatial_attention_block_identifiers=["transformer_blocks"],
        ),
    ],
    ids=["first_block", "pyramid_attention_broadcast"],
)
def test_caches_work_with_every_mode(config):
    pipe = tiny_pipeline()
    config.current_timestep_callback = lambda: pipe.current_timestep
    plain = vectors(pipe, None, num_networks=3, num_inference_steps=6)
    pipe.transformer.enable_cache(config)
    cached = vectors(pipe, None, num_networks=3, num_inference_steps=6)
    assert cached.isfinite().all() and cached.shape[0] == 3
    assert vectors(pipe, [9, 7]).isfinite().all()
    assert torch.equal(cached, vectors(pipe, None, num_networks=3, num_inference_steps=6))
    pipe.transformer.disable_cache()
    assert torch.equal(vectors(pipe, None, num_networks=3, num_inference_steps=6), plain)


def test_lora_scale_reaches_the_transformer():
    pipe = tiny_pipeline()
    plain = vectors(pipe)
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    assert not torch.allclose(vectors(pipe), plain, atol=1e-3)
    unscaled = vectors(pipe, attention_kwargs={"scale": 0.0})
    torch.testing.assert_close(unscaled, plain, atol=1e-5, rtol=1e-4)


def test_layerwise_casting_generates():
    pipe = tiny_pipeline()
    pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert vectors(pipe).isfinite().all()


def test_a_plain_diffusion_pipeline_loads_it_through_its_root_file(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    (tmp_path / "pipeline.py").write_text("from nnit_diffusers import NNiTPipeline\n")
    loaded = DiffusionPipeline.from_pretrained(tmp_path, custom_pipeline=str(tmp_path), trust_remote_code=True)
    assert type(loaded) is NNiTPipeline
    assert torch.equal(vectors(loaded), vectors(pipeline))


@pytest.mark.parametrize("kind", [str, Path])
def test_a_missing_folder_is_named(tmp_path, kind):
    with pytest.raises(ValueError, match="missing/pipeline.* is neither a valid local path nor a valid repo id"):
        NNiTPipeline.from_pretrained(kind(tmp_path / "missing" / "pipeline"))
