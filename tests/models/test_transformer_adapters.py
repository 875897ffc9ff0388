"""LoRA adapters, as diffusers' own tests expect of every model."""

import pytest
import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from test_transformer_nnit_diffusers import ATTENTION_LAYERS, fresh_transformer, sample


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
