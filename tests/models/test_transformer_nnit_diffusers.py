"""What diffusers' own tests expect of every model: loading, outputs, training, attention."""

import json
import logging

import pytest
import torch
from diffusers.models.attention_dispatch import attention_backend
from diffusers.training_utils import EMAModel
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
