"""Caches, memory and compilation, as diffusers' own tests expect of every model."""

import pytest
import torch
from accelerate import infer_auto_device_map
from accelerate.utils import compute_module_sizes
from diffusers.hooks import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)
from test_transformer_nnit import inputs
from test_transformer_nnit_diffusers import batch, fresh_transformer, sample


# Caches


class Sampling:
    """Current timestep of the sampling, which some caches read."""

    timestep = 1000


CACHES = {
    "pyramid attention broadcast": PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: Sampling.timestep
    ),
    "first block": FirstBlockCacheConfig(threshold=1.0),
    "faster": FasterCacheConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 901),
        is_guidance_distilled=True,
        attention_weight_callback=lambda _: 0.5,
        current_timestep_callback=lambda: Sampling.timestep,
    ),
    "mag": MagCacheConfig(num_inference_steps=2, retention_ratio=0.0, threshold=100.0, mag_ratios=[1.0, 1.0]),
    "taylor seer": TaylorSeerCacheConfig(cache_interval=3, disable_cache_before_step=1, max_order=1),
}


@pytest.fixture(params=CACHES)
def cached(request):
    Sampling.timestep = 1000
    model = fresh_transformer().eval()
    assert not model.is_cache_enabled
    model.enable_cache(CACHES[request.param])
    assert model.is_cache_enabled
    return model


@torch.no_grad()
def test_a_cache_skips_computation_until_it_is_disabled(cached):
    calls = []
    for block in cached.transformer_blocks:
        block.ff.register_forward_hook(lambda *_: calls.append("ff"))
        block.attn.to_q.register_forward_hook(lambda *_: calls.append("attn"))
    # the second call skips some layers
    with cached.cache_context("cond"):
        sample(cached)
        assert len(calls) == 4
        Sampling.timestep = 500
        approximate = cached(**batch(seed=1), return_dict=False)[0]
    assert len(calls) < 8
    assert approximate.isfinite().all()
    # without the cache the output is exact again
    cached.disable_cache()
    assert not cached.is_cache_enabled
    exact = fresh_transformer().eval()(**batch(seed=1), return_dict=False)[0]
    assert not torch.allclose(approximate, exact, atol=1e-5)
    assert torch.equal(cached(**batch(seed=1), return_dict=False)[0], exact)


@torch.no_grad()
def test_cache_contexts_are_separate_and_can_be_reset(cached):
    outputs = []
    for name in ("cond", "uncond"):
        with cached.cache_context(name):
            outputs.append(sample(cached))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)
    cached._reset_stateful_cache()
    with cached.cache_context("cond"):
        torch.testing.assert_close(sample(cached), outputs[0], atol=1e-5, rtol=0)


def test_a_second_cache_is_refused(cached):
    with pytest.raises(ValueError, match="Caching has already been enabled"):
        cached.enable_cache(FirstBlockCacheConfig())


# Memory


@pytest.mark.parametrize(
    ("storage", "compute"),
    [
        (torch.float16, torch.float32),
        (torch.float8_e4m3fn, torch.float32),
        (torch.float8_e5m2, torch.float32),
        (torch.float8_e4m3fn, torch.bfloat16),
    ],
)
def test_layerwise_casting_stores_less_precision_than_it_computes_in(storage, compute):
    model = fresh_transformer().to(compute)
    full_size = model.get_memory_footprint()
    model.enable_layerwise_casting(storage_dtype=storage, compute_dtype=compute)
    assert model.get_memory_footprint() < 0.8 * full_size
    assert model.transformer_blocks[0].attn.to_q.weight.dtype == storage
    for module in (model.patch_embed, model.time_embed.linear_1, model.transformer_blocks[0].attn.norm_q):
        assert module.weight.dtype == compute
    output = sample(model, compute)
    assert output.dtype == compute
    torch.testing.assert_close(output.float(), sample(fresh_transformer()), atol=0.05, rtol=0.05)
    with torch.autocast("cpu"):
        loss = sample(model, compute).float().square().mean()
    loss.backward()


@pytest.mark.parametrize("offloading", [{"offload_type": "block_level", "num_blocks_per_group": 1}, {}])
@torch.no_grad()
def test_group_offloading_does_not_change_the_output(offloading):
    model = fresh_transformer().eval()
    expected = sample(model)
    model.enable_group_offload(torch.device("cpu"), **{"offload_type": "leaf_level", **offloading})
    assert torch.equal(sample(model), expected)


def test_a_model_split_over_devices_keeps_each_block_on_one_device():
    model = fresh_transformer(num_layers=4)
    size = compute_module_sizes(model)[""]
    devices = infer_auto_device_map(
        model, {0: int(0.6 * size), "cpu": 2 * size}, no_split_module_classes=model._no_split_modules
    )
    assert set(devices.values()) == {0, "cpu"}
    assert not any(name.startswith("transformer_blocks.") and name.count(".") > 1 for name in devices)


# Compilation, with backends that need no C++ compiler


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@torch.no_grad()
def test_the_model_compiles_once_to_one_graph(fresh_compiler):
    model = fresh_transformer(num_layers=1).eval()
    expected = sample(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(2):
            torch.testing.assert_close(sample(compiled), expected)


@torch.no_grad()
def test_one_graph_serves_networks_of_any_size(fresh_compiler):
    model = fresh_transformer(num_layers=1).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for hidden_sizes in ([9, 6], [16, 3, 12], [10]):
            kwargs = inputs(hidden_sizes, [4])
            torch.testing.assert_close(compiled(**kwargs).sample, model(**kwargs).sample)


@torch.no_grad()
def test_repeated_blocks_compile_only_once(fresh_compiler):
    model = fresh_transformer(num_layers=3).eval()
    expected = sample(model)
    model.compile_repeated_blocks(fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(recompile_limit=1):
        for _ in range(2):
            torch.testing.assert_close(sample(model), expected)


@torch.no_grad()
def test_the_model_can_be_exported(fresh_compiler):
    model = fresh_transformer().eval()
    exported = torch.export.export(model, args=(), kwargs=batch())
    torch.testing.assert_close(exported.module()(**batch()).sample, model(**batch()).sample)
