"""Generation and training on an accelerator; skipped without one."""

import shutil

import pytest
import torch
import train_ghn
import train_nnit
from launching import TINY_GHN, TINY_NNIT, assert_same_files, fresh_accelerate, trainer_of

from nnit_diffusers import NNiTPipeline


pytestmark = [
    pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no accelerator"),
    pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning"),
]

ARCHITECTURES = [[20, 17], [64], [19, 30, 32]]
SIX_STEPS = {"max_train_steps": 6, "checkpointing_steps": 3}


def load(folder, **kwargs):
    pipe = NNiTPipeline.from_pretrained(folder, **kwargs)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def vectors(pipe, arch, generator=None, **kwargs):
    """Parameter vectors on the CPU."""
    generator = generator or torch.Generator().manual_seed(0)
    return pipe(arch=arch, generator=generator, num_inference_steps=4, output_type="pt", **kwargs).networks.cpu()


@pytest.fixture
def accelerator():
    return torch.accelerator.current_accelerator()


def test_the_same_seed_gives_the_same_networks_as_on_the_cpu(digits_pipeline_folder, accelerator):
    expected = vectors(load(digits_pipeline_folder), ARCHITECTURES)
    on_accelerator = load(digits_pipeline_folder).to(accelerator)
    torch.testing.assert_close(vectors(on_accelerator, ARCHITECTURES), expected, atol=1e-4, rtol=1e-3)
    offloaded = load(digits_pipeline_folder)
    offloaded.enable_model_cpu_offload()
    torch.testing.assert_close(vectors(offloaded, ARCHITECTURES), expected, atol=1e-4, rtol=1e-3)


def test_the_model_chooses_the_same_architectures_as_on_the_cpu(digits_pipeline_folder, accelerator):
    chosen = [
        pipe(
            num_networks=8, max_parameters=3000, num_inference_steps=4, generator=torch.Generator().manual_seed(0)
        ).architectures
        for pipe in (load(digits_pipeline_folder), load(digits_pipeline_folder).to(accelerator))
    ]
    assert chosen[0] == chosen[1]


def test_a_network_does_not_depend_on_the_others_of_its_batch(digits_pipeline_folder, accelerator):
    pipe = load(digits_pipeline_folder).to(accelerator)
    together = vectors(pipe, ARCHITECTURES, [torch.Generator().manual_seed(seed) for seed in range(3)])
    for row, arch in enumerate(ARCHITECTURES):
        alone = vectors(pipe, arch, torch.Generator().manual_seed(row))
        torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], atol=1e-5, rtol=1e-4)


def test_a_generator_on_the_accelerator_is_reproducible(digits_pipeline_folder, accelerator):
    pipe = load(digits_pipeline_folder).to(accelerator)
    first, again = (vectors(pipe, [20, 17], torch.Generator(accelerator).manual_seed(3)) for _ in range(2))
    torch.testing.assert_close(first, again, atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_networks(digits_pipeline_folder, accelerator, dtype):
    half = load(digits_pipeline_folder, dtype=dtype).to(accelerator)
    expected = vectors(load(digits_pipeline_folder), ARCHITECTURES)
    difference = (vectors(half, ARCHITECTURES) - expected).norm() / expected.norm()
    assert 0 < difference < 0.05


def test_networks_run_where_they_were_generated_and_elsewhere(digits_pipeline_folder, accelerator):
    pipe = load(digits_pipeline_folder).to(accelerator)
    (network,) = pipe([20, 17], num_inference_steps=2).networks
    inputs = torch.rand(5, 64)
    outputs = network(inputs.to(accelerator))
    assert outputs.device.type == accelerator.type
    torch.testing.assert_close(network.cpu()(inputs), outputs.cpu(), atol=1e-4, rtol=1e-3)
    (from_ghn,) = pipe.ghn.generate([pipe.tokenizer.architecture([20, 17])])
    assert from_ghn(inputs.to(next(from_ghn.parameters()).device)).isfinite().all()


@pytest.mark.parametrize("settings", [{}, {"mixed_precision": "bf16", "function_loss_weight": 1.0}], ids=str)
def test_a_transformer_trains_and_resumes(digits_pipeline_folder, tmp_path, settings):
    arguments = {**TINY_NNIT, **SIX_STEPS, "ghn_name_or_path": str(digits_pipeline_folder / "ghn"), **settings}
    resume(train_nnit, tmp_path, arguments)
    pipe = load(tmp_path / "complete" / "pipeline")
    assert vectors(pipe, ARCHITECTURES).isfinite().all()


def test_a_hypernetwork_trains_and_resumes(tmp_path):
    resume(train_ghn, tmp_path, {**TINY_GHN, **SIX_STEPS})


def resume(script, folder, arguments):
    """Trains once without interruption and once from the middle checkpoint; compares the last checkpoints."""
    for name, settings in (("complete", {}), ("resumed", {"resume_from_checkpoint": "latest"})):
        if name == "resumed":
            shutil.copytree(folder / "complete" / "checkpoint-3", folder / "resumed" / "checkpoint-3")
        with fresh_accelerate(cpu=False):
            training = trainer_of(script.Arguments(output_dir=str(folder / name), **arguments, **settings))
            assert training.accelerator.device.type == torch.accelerator.current_accelerator().type
            training.run()
    assert_same_files(folder / "resumed" / "checkpoint-6", folder / "complete" / "checkpoint-6")
