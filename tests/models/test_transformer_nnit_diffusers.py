"""What diffusers' own tests expect of every model: loading, training, attention, LoRA, caches, memory, compilation."""

import json
import logging

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
from diffusers.models.attention_dispatch import attention_backend
from diffusers.training_utils import EMAModel
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from test_transformer_nnit import inputs

from nnit_diffusers.models.transformer_nnit import NNiTAttention, NNiTAttnProcessor, NNiTTransformer


FP32_MODULES = ("time_embed", "architecture_time_embed", "scale_shift_table")
ATTENTION_LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]


def fresh_transformer(**kwargs):
    """An untrained model, as diffusers' own tests use it."""
    torch.manual_seed(0)
    sizes = {"max_width": 16, "max_depth": 3, "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
    return NNiTTransformer(**{"in_features": 5, "out_features": 3, "patch_size": 4, **sizes, **kwargs})


def batch(dtype=torch.float32, seed=0):
    kwargs = inputs([9, 6], [4], seed=seed)
    return {**kwargs, "hidden_states": kwargs["hidden_states"].to(dtype)}


def sample(model, dtype=torch.float32, **kwargs):
    return model(**{**batch(dtype), **kwargs}, return_dict=False)[0]


# Loading


@torch.no_grad()
def test_a_saved_model_gives_the_same_output(tmp_path):
    model = fresh_transformer().eval()
    model.save_pretrained(tmp_path)
    loaded = NNiTTransformer.from_pretrained(tmp_path)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(sample(loaded), sample(model), atol=5e-5, rtol=5e-5)
    assert not loaded.training


@torch.no_grad()
def test_a_variant_is_saved_and_loaded_by_its_name(tmp_path):
    model = fresh_transformer().eval()
    model.save_pretrained(tmp_path, variant="fp16")
    torch.testing.assert_close(sample(NNiTTransformer.from_pretrained(tmp_path, variant="fp16")), sample(model))
    with pytest.raises(OSError, match="no file named diffusion_pytorch_model"):
        NNiTTransformer.from_pretrained(tmp_path)


@torch.no_grad()
def test_a_sharded_checkpoint_loads_completely(tmp_path):
    model = fresh_transformer().eval()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    index = json.loads((tmp_path / "diffusion_pytorch_model.safetensors.index.json").read_text())
    shards = set(index["weight_map"].values())
    assert len(shards) == len(list(tmp_path.glob("*.safetensors"))) > 1
    torch.testing.assert_close(sample(NNiTTransformer.from_pretrained(tmp_path)), sample(model))


def test_the_configuration_makes_the_same_model():
    model = fresh_transformer(mlp_ratio=2.0, dropout=0.1)
    again = NNiTTransformer.from_config(model.config)
    assert dict(again.config) == dict(model.config)
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_keeps_some_modules_in_float32(tmp_path, dtype):
    fresh_transformer().save_pretrained(tmp_path)
    model = NNiTTransformer.from_pretrained(tmp_path, torch_dtype=dtype)
    assert model.dtype == dtype
    for name, parameter in model.named_parameters():
        kept = any(part in FP32_MODULES for part in name.split("."))
        assert parameter.dtype == (torch.float32 if kept else dtype), name
    output = sample(model, dtype)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), sample(fresh_transformer().eval()), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_a_cast_with_to_converts_every_parameter(dtype):
    model = fresh_transformer().eval()
    expected = sample(model)
    model.to(dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    torch.testing.assert_close(sample(model, dtype).float(), expected, atol=0.02, rtol=0.02)


def test_a_cast_with_to_warns_of_modules_that_should_stay_in_float32(caplog):
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING, logger="diffusers.models.modeling_utils"):
            fresh_transformer().to(torch.float16)
    finally:
        diffusers_logging.disable_propagation()
    assert "modules in NNiTTransformer that should be kept in float32" in caplog.text


# Outputs


@torch.no_grad()
def test_the_tuple_has_the_order_of_the_output():
    model = fresh_transformer().eval()
    output, as_tuple = model(**batch()), model(**batch(), return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert len(as_tuple) == len(output.to_tuple()) == 2
    assert torch.equal(output.sample, as_tuple[0])
    assert torch.equal(output[1], as_tuple[1])
    assert torch.equal(output["architecture_logits"], as_tuple[1])


@torch.no_grad()
def test_the_same_inputs_give_the_same_output_and_the_same_shape():
    model = fresh_transformer().eval()
    assert torch.equal(sample(model), sample(model))
    assert sample(model).shape == batch()["hidden_states"].shape
    # large enough for adapters and caches to be visible in the output of an untrained model
    assert sample(model).abs().max() > 0.01


def test_config_attributes_are_deprecated_and_unknown_ones_raise():
    model = fresh_transformer()
    with pytest.warns(FutureWarning, match="Accessing config attribute `patch_size` directly"):
        assert model.patch_size == 4
    with pytest.raises(AttributeError, match="'NNiTTransformer' object has no attribute 'does_not_exist'"):
        model.does_not_exist  # noqa: B018


# Training


def test_gradient_checkpointing_changes_neither_loss_nor_gradients():
    results = []
    for checkpointing in (False, True):
        model = fresh_transformer(dropout=0.1)
        assert not model.is_gradient_checkpointing
        if checkpointing:
            model.enable_gradient_checkpointing()
            assert model.is_gradient_checkpointing
        torch.manual_seed(1)
        output = model(**batch())
        loss = output.sample.square().mean() + output.architecture_logits[..., 1:].square().mean()
        loss.backward()
        results.append((loss, {name: parameter.grad for name, parameter in model.named_parameters()}))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


def test_gradient_checkpointing_recomputes_every_block():
    model = fresh_transformer()
    model.enable_gradient_checkpointing()
    calls = []
    for block in model.transformer_blocks:
        block.register_forward_pre_hook(lambda *_: calls.append(1))
    loss = sample(model).square().mean()
    assert len(calls) == 2
    loss.backward()
    assert len(calls) == 4
    model.disable_gradient_checkpointing()
    assert not model.is_gradient_checkpointing


def test_bf16_autocast_trains_without_a_warning():
    model = fresh_transformer()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sample(model).float().square().mean()
    loss.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters() if parameter.grad is not None)


def test_the_ema_is_saved_as_a_model(tmp_path):
    model = fresh_transformer()
    ema = EMAModel(model.parameters(), decay=0.5, model_cls=NNiTTransformer, model_config=model.config)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.data += 1
        ema.step(model.parameters())
    ema.save_pretrained(tmp_path)
    saved = NNiTTransformer.from_pretrained(tmp_path)
    assert 0 < (model.proj_out.bias - saved.proj_out.bias).mean() < 3


# Attention


@torch.no_grad()
def test_projections_are_fused_and_unfused_without_changing_the_output():
    model = fresh_transformer().eval()
    expected = sample(model)
    model.fuse_qkv_projections()
    assert all(block.attn.fused_projections for block in model.transformer_blocks)
    # only the fused projections are used
    for block in model.transformer_blocks:
        block.attn.to_q.weight.data.zero_()
    torch.testing.assert_close(sample(model), expected, atol=1e-5, rtol=1e-5)

    model = fresh_transformer().eval()
    model.fuse_qkv_projections()
    model.unfuse_qkv_projections()
    assert not any(hasattr(block.attn, "to_qkv") for block in model.transformer_blocks)
    assert torch.equal(sample(model), expected)


class SilentAttnProcessor(NNiTAttnProcessor):
    """Scales its output by `loudness`, which is 0 by default."""

    def __call__(self, attn, hidden_states, attention_mask=None, loudness=0.0):
        return loudness * super().__call__(attn, hidden_states, attention_mask)


@torch.no_grad()
def test_processors_are_found_and_replaced():
    model = fresh_transformer().eval()
    expected = sample(model)
    assert list(model.attn_processors) == [f"transformer_blocks.{i}.attn.processor" for i in range(2)]
    assert {type(processor) for processor in model.attn_processors.values()} == {NNiTAttnProcessor}

    model.set_attn_processor({name: SilentAttnProcessor() for name in model.attn_processors})
    silent = sample(model)
    assert not torch.allclose(silent, expected, atol=1e-5)
    model.set_attn_processor(NNiTAttnProcessor())
    assert torch.equal(sample(model), expected)

    processor = SilentAttnProcessor()
    for module in model.modules():
        if isinstance(module, NNiTAttention):
            module.set_processor(processor)
            assert module.get_processor() is processor
    assert torch.equal(sample(model), silent)


@torch.no_grad()
def test_a_processor_gets_the_attention_kwargs():
    model = fresh_transformer().eval()
    expected = sample(model)
    model.set_attn_processor(SilentAttnProcessor())
    assert not torch.allclose(sample(model), expected, atol=1e-5)
    assert torch.equal(sample(model, attention_kwargs={"loudness": 1.0}), expected)


def test_a_wrong_number_of_processors_is_refused():
    model = fresh_transformer()
    with pytest.raises(ValueError, match="number of processors"):
        model.set_attn_processor({next(iter(model.attn_processors)): NNiTAttnProcessor()})


@pytest.mark.parametrize("backend", ["native", "_native_math"])
@torch.no_grad()
def test_attention_backends_give_the_same_output_however_they_are_set(backend):
    model = fresh_transformer().eval()
    expected = sample(model)
    with attention_backend(backend):
        in_context = sample(model)
    model.set_attention_backend(backend)
    assert {processor._attention_backend for processor in model.attn_processors.values()} == {backend}
    chosen = sample(model)
    model.reset_attention_backend()
    assert {processor._attention_backend for processor in model.attn_processors.values()} == {None}
    assert torch.equal(in_context, chosen)
    torch.testing.assert_close(chosen, expected, atol=1e-5, rtol=1e-5)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="must be one of the following"):
        fresh_transformer().set_attention_backend("fastest")


# Adapters


def lora_config(rank=4, layers=ATTENTION_LAYERS):
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=layers, init_lora_weights=False)


def has_lora(model):
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


@torch.no_grad()
def test_an_adapter_is_added_saved_unloaded_and_loaded(tmp_path):
    model = fresh_transformer().eval()
    without = sample(model)
    model.add_adapter(lora_config())
    adapted = sample(model)
    assert not torch.allclose(without, adapted, atol=1e-4, rtol=1e-4)

    # save and unload
    model.save_lora_adapter(tmp_path)
    model.unload_lora()
    assert not has_lora(model)
    assert torch.equal(sample(model), without)

    # load
    model.load_lora_adapter(tmp_path, prefix=None, use_safetensors=True)
    assert has_lora(model)
    torch.testing.assert_close(sample(model), adapted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_scale_of_an_adapter_applies_to_one_call():
    model = fresh_transformer().eval()
    without = sample(model)
    model.add_adapter(lora_config())
    adapted = sample(model)
    assert torch.equal(sample(model, attention_kwargs={"scale": 0.0}), without)
    assert torch.equal(sample(model, attention_kwargs={"scale": 1.0}), adapted)
    half = sample(model, attention_kwargs={"scale": 0.5})
    assert not torch.allclose(half, without, atol=1e-5)
    assert not torch.allclose(half, adapted, atol=1e-5)
    assert torch.equal(sample(model), adapted)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
@torch.no_grad()
def test_adapters_are_switched_weighted_disabled_and_fused():
    model = fresh_transformer().eval()
    without = sample(model)
    model.add_adapter(lora_config(), "first")
    first = sample(model)
    # switch
    model.add_adapter(lora_config(), "second")
    model.set_adapter("second")
    assert not torch.allclose(sample(model), first, atol=1e-4)
    # weight
    model.set_adapters("first", 0.0)
    assert torch.equal(sample(model), without)
    model.set_adapter("first")
    model.set_adapters("first", 1.0)
    torch.testing.assert_close(sample(model), first)
    # disable
    model.disable_adapters()
    assert torch.equal(sample(model), without)
    model.enable_adapters()
    # fuse
    model.fuse_lora(adapter_names=["first"])
    torch.testing.assert_close(sample(model), first, atol=1e-5, rtol=1e-4)
    model.unfuse_lora()
    torch.testing.assert_close(sample(model), first, atol=1e-5, rtol=1e-4)


def test_only_the_adapter_is_trained():
    model = fresh_transformer()
    model.requires_grad_(False)
    model.add_adapter(lora_config())
    sample(model).square().mean().backward()
    trained = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert trained
    assert all(".lora_" in name for name in trained)


def test_any_linear_layer_may_be_adapted():
    model = fresh_transformer()
    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    model.add_adapter(lora_config(layers=linears))
    adapted = sample(model)
    assert adapted.isfinite().all()
    assert not torch.allclose(adapted, sample(fresh_transformer()), atol=1e-3)


@pytest.mark.parametrize(("first_rank", "second_rank"), [(5, 5), (3, 7), (7, 3)])
@torch.no_grad()
def test_an_adapter_is_swapped_for_one_of_another_rank(tmp_path, first_rank, second_rank):
    expected = []
    for seed, (name, rank) in enumerate((("first", first_rank), ("second", second_rank))):
        model = fresh_transformer().eval()
        torch.manual_seed(seed)
        model.add_adapter(lora_config(rank), "swapped")
        expected.append(sample(model))
        model.save_lora_adapter(tmp_path / name, adapter_name="swapped")
    # load the first adapter, then swap it for the second
    model = fresh_transformer().eval()
    model.enable_lora_hotswap(target_rank=max(first_rank, second_rank))
    load = {"prefix": None, "adapter_name": "swapped", "use_safetensors": True}
    model.load_lora_adapter(tmp_path / "first", **load)
    torch.testing.assert_close(sample(model), expected[0], atol=5e-3, rtol=5e-3)
    model.load_lora_adapter(tmp_path / "second", hotswap=True, **load)
    torch.testing.assert_close(sample(model), expected[1], atol=5e-3, rtol=5e-3)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)


def test_saving_an_unknown_adapter_is_refused(tmp_path):
    model = fresh_transformer()
    model.add_adapter(lora_config())
    with pytest.raises(ValueError, match="Adapter name foo not found in the model"):
        model.save_lora_adapter(tmp_path, adapter_name="foo")


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
