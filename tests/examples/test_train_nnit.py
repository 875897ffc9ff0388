import json
import shutil
import subprocess
import sys

import build_weight_dataset
import pytest
import torch
import train_nnit as script
from launching import (
    ONE_PROCESS,
    assert_same_files,
    cpu_environment,
    flags,
    fresh_accelerate,
    launch,
    logged,
    run,
    trainer_of,
)
from launching import TINY_NNIT as TINY

from nnit_diffusers import NNiTPipeline, NNiTTransformer, get_task
from nnit_diffusers.data import GHNWeightStream
from nnit_diffusers.training import NNiTTrainingConfig
from nnit_diffusers.training.transformer import NNiTTrainer


# diffusers' own `EMAModel.from_pretrained` triggers a deprecation warning of diffusers.
pytestmark = pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")


@pytest.fixture(autouse=True)
def accelerate_of_this_test():
    with fresh_accelerate():
        yield


@pytest.fixture(scope="module")
def ghn_folder(digits_pipeline_folder):
    return str(digits_pipeline_folder / "ghn")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, ghn_folder):
    """A training run of six steps, launched as users do."""
    output_dir = tmp_path_factory.mktemp("outputs") / "nnit"
    arguments = {**TINY, "ghn_name_or_path": ghn_folder, "checkpointing_steps": 2, "checkpoints_total_limit": 2}
    log = launch(ONE_PROCESS, script.__file__, "--output_dir", str(output_dir), *flags(arguments))
    assert "on 1 process(es)" in log
    return output_dir


def training(output_dir, **arguments):
    """A training run before its first step."""
    return trainer_of(script.Arguments(output_dir=str(output_dir), **{**TINY, **arguments}))


def test_checkpoints_are_written_at_their_steps_and_the_oldest_removed(trained):
    assert {path.name for path in trained.iterdir()} == {
        "checkpoint-4",
        "checkpoint-6",
        "logs",
        "pipeline",
        "training.json",
    }
    record = json.loads((trained / "training.json").read_text())
    assert record["arguments"]["attention_head_dim"] == 8
    assert "--attention_head_dim 8" in record["command"]


def test_the_final_pipeline_generates_networks_of_given_and_chosen_architectures(trained, digits):
    pipeline = NNiTPipeline.from_pretrained(trained / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    given = pipeline(arch=[[48, 40], [20]], num_inference_steps=2)
    assert [network.architecture.hidden_sizes for network in given.networks] == [(48, 40), (20,)]
    chosen = pipeline(num_networks=3, num_inference_steps=2)
    for architecture in chosen.architectures:
        assert architecture.depth <= digits.max_depth
        assert min(architecture.hidden_sizes) >= digits.min_width
    for network in given.networks + chosen.networks:
        assert network(torch.rand(5, 64)).isfinite().all()


def test_the_ghn_is_saved_unless_excluded(trained, tmp_path, ghn_folder, digits):
    saved = NNiTPipeline.from_pretrained(trained / "pipeline").ghn
    (network,) = saved.generate([digits.regions.architecture([48, 40])])
    assert network(torch.rand(5, 64)).isfinite().all()
    arguments = {**TINY, "max_train_steps": 1, "include_ghn": False}
    without = run(script, tmp_path, ghn_name_or_path=ghn_folder, **arguments)
    assert NNiTPipeline.from_pretrained(without / "pipeline").ghn is None


def test_the_averaged_weights_are_saved(trained):
    saved, averaged, last = (
        NNiTTransformer.from_pretrained(trained / name).state_dict()
        for name in ("pipeline/transformer", "checkpoint-6/transformer_ema", "checkpoint-6/transformer")
    )
    assert all(torch.equal(saved[name], averaged[name]) for name in saved)
    assert not any(torch.equal(saved[name], last[name]) for name in saved)


def test_the_transformers_of_a_checkpoint_differ_from_the_final_one(trained):
    final = NNiTTransformer.from_pretrained(trained / "pipeline/transformer").proj_out.weight
    for name in ("transformer", "transformer_ema"):
        earlier = NNiTTransformer.from_pretrained(trained / "checkpoint-4" / name)
        assert not torch.equal(earlier.proj_out.weight, final)


def test_patches_of_training_networks_have_unit_rms(trained, digits):
    pipeline = NNiTPipeline.from_pretrained(trained / "pipeline")
    stream = GHNWeightStream(pipeline.ghn, digits.regions)
    for rms in rms_of(stream, pipeline.tokenizer):
        assert rms == pytest.approx([1, 1, 1], abs=0.1)


def rms_of(source, tokenizer):
    """Root mean square of the weights and of the biases, of first, hidden and last layers."""
    generator = torch.Generator().manual_seed(7)
    batches = (tokenizer.encode_state_dicts(*source.networks(16, generator)) for _ in range(40))
    fitted = tokenizer.with_scales_of(batches)
    return [
        [after / before for after, before in zip(fitted.config[name], tokenizer.config[name])]
        for name in ("weight_scale", "bias_scale")
    ]


@pytest.mark.parametrize(
    "settings", [{}, {"gradient_accumulation_steps": 2}, {"function_loss_weight": 1.0}], ids=lambda names: str(*names)
)
def test_a_resumed_training_run_equals_the_uninterrupted_one(tmp_path, ghn_folder, settings):
    arguments = {**TINY, "ghn_name_or_path": ghn_folder, "checkpointing_steps": 3, **settings}
    complete = run(script, tmp_path / "complete", **arguments)
    shutil.copytree(complete / "checkpoint-3", tmp_path / "resumed" / "checkpoint-3")
    resumed = run(script, tmp_path / "resumed", resume_from_checkpoint="latest", **arguments)
    for folder in ("checkpoint-6", "pipeline"):
        assert_same_files(resumed / folder, complete / folder)
    for curve in ("patches", "architecture", "lr", *(["function"] if "function_loss_weight" in settings else [])):
        expected = logged(complete, curve)
        assert logged(resumed, curve) == pytest.approx({step: expected[step] for step in (4, 5, 6)}, rel=1e-3)


def test_batches_do_not_depend_on_the_number_of_workers(tmp_path, ghn_folder):
    arguments = {"ghn_name_or_path": ghn_folder, "function_loss_weight": 1.0}
    drawn = [list(training(tmp_path, dataloader_num_workers=number, **arguments).batches()) for number in (0, 3)]
    assert [len(batches) for batches in drawn] == [6, 6]
    for (noised, samples, _), (other_noised, other_samples, _) in zip(*drawn):
        assert noised.clean.architectures == other_noised.clean.architectures
        pairs = zip(samples.of(None), other_samples.of(None), strict=True)
        assert all(torch.equal(sample, other) for sample, other in pairs)
        for name, value in vars(noised).items():
            assert name == "clean" or value is None or torch.equal(value, getattr(other_noised, name))
    assert not torch.equal(drawn[0][0].noised.sample_tokens, drawn[0][1].noised.sample_tokens)


def test_dataloader_workers_do_not_change_the_losses(trained, tmp_path, ghn_folder):
    run(script, tmp_path, ghn_name_or_path=ghn_folder, dataloader_num_workers=2, **TINY)
    # up to rounding, since the position of a batch in memory changes how its sums are vectorised
    assert logged(tmp_path, "patches") == pytest.approx(logged(trained, "patches"), rel=1e-5)


def test_gradient_checkpointing_does_not_change_the_losses(trained, tmp_path, ghn_folder):
    run(script, tmp_path, ghn_name_or_path=ghn_folder, gradient_checkpointing=True, **TINY)
    assert logged(tmp_path, "patches") == pytest.approx(logged(trained, "patches"), rel=1e-5)


def test_mixed_precision_has_nearly_the_losses_of_full_precision(trained, tmp_path, ghn_folder):
    run(script, tmp_path, ghn_name_or_path=ghn_folder, mixed_precision="bf16", **TINY)
    for curve in ("patches", "architecture"):
        exact, rounded = logged(trained, curve), logged(tmp_path, curve)
        assert rounded != exact
        assert rounded == pytest.approx(exact, rel=0.05, abs=0.05)
    assert NNiTPipeline.from_pretrained(tmp_path / "pipeline").transformer.dtype == torch.float32


def test_adamw_without_an_average_saves_its_last_weights(trained, tmp_path, ghn_folder):
    arguments = {**TINY, "optimizer": "adamw", "use_ema": False, "checkpointing_steps": 6}
    run(script, tmp_path, ghn_name_or_path=ghn_folder, **arguments)
    assert not (tmp_path / "checkpoint-6" / "transformer_ema").exists()
    assert_same_files(tmp_path / "pipeline" / "transformer", tmp_path / "checkpoint-6" / "transformer")
    adamw, muon = logged(tmp_path, "patches"), logged(trained, "patches")
    assert adamw[1] == muon[1]
    assert adamw[6] != muon[6]


def test_a_higher_weight_of_the_function_loss_lowers_the_function_error(tmp_path, ghn_folder):
    """Compares two training runs on the same networks, noise and inputs."""
    arguments = {**TINY, "max_train_steps": 40, "validation_steps": 100, "logit_mean": -1.0, "learning_rate": 5e-3}
    curves = []
    for weight in (1e-6, 10.0):
        run(script, tmp_path / str(weight), ghn_name_or_path=ghn_folder, function_loss_weight=weight, **arguments)
        curves.append(logged(tmp_path / str(weight), "function"))
    plain, weighted = curves
    assert weighted[1] == pytest.approx(plain[1], rel=1e-5)
    last = range(31, 41)
    assert sum(weighted[step] for step in last) < 0.92 * sum(plain[step] for step in last)


@pytest.mark.parametrize("weighting_scheme", ["logit_normal", "mode", "none"])
def test_noise_levels_of_every_scheme_lie_between_0_and_1(tmp_path, ghn_folder, weighting_scheme):
    run_of = training(tmp_path, ghn_name_or_path=ghn_folder, weighting_scheme=weighting_scheme)
    run_of.config.train_batch_size = 400
    sigmas = run_of.prepare_batch(torch.Generator().manual_seed(0)).noised.sigmas
    assert sigmas.shape == (400,)
    assert 0 <= sigmas.min() < 0.1 and 0.95 < sigmas.max() <= 1


def test_a_transformer_trains_on_a_weight_dataset_and_resumes(tmp_path, ghn_folder):
    dataset = run(
        build_weight_dataset, tmp_path / "weights", ghn_name_or_path=ghn_folder, num_networks=40, networks_per_shard=16
    )
    trained = run(script, tmp_path / "nnit", dataset_name=str(dataset), checkpointing_steps=3, **TINY)
    pipeline = NNiTPipeline.from_pretrained(trained / "pipeline")
    assert pipeline.ghn is None
    pipeline.set_progress_bar_config(disable=True)
    (network,) = pipeline(arch=[48, 40], num_inference_steps=2).networks
    assert network(torch.rand(5, 64)).isfinite().all()

    resumed = tmp_path / "resumed"
    shutil.copytree(trained / "checkpoint-3", resumed / "checkpoint-3")
    arguments = {**TINY, "dataset_name": str(dataset), "checkpointing_steps": 3}
    run(script, resumed, resume_from_checkpoint="checkpoint-3", **arguments)
    assert_same_files(resumed / "pipeline", trained / "pipeline")


def test_patches_of_a_weight_dataset_have_unit_rms(tmp_path, ghn_folder):
    dataset = run(build_weight_dataset, tmp_path / "weights", ghn_name_or_path=ghn_folder, num_networks=40)
    config = NNiTTrainingConfig(**{**TINY, "train_batch_size": 16})
    trainer = NNiTTrainer(get_task("digits"), str(dataset), config, tmp_path)
    for rms in rms_of(trainer.source, trainer.tokenizer):
        assert rms == pytest.approx([1, 1, 1], abs=0.15)


def test_a_training_run_can_start_from_a_pipeline_and_from_a_checkpoint(trained, tmp_path, ghn_folder):
    for folder in (trained / "pipeline", trained / "checkpoint-4"):
        # with a learning rate of 0, the weights stay as they were
        still = {**TINY, "max_train_steps": 1, "learning_rate": 0.0, "muon_learning_rate": 0.0}
        paths = {"ghn_name_or_path": ghn_folder, "pretrained_model_name_or_path": str(folder)}
        started = run(script, tmp_path / folder.name, **paths, **still)
        found = NNiTTransformer.from_pretrained(started / "pipeline" / "transformer")
        expected = NNiTTransformer.from_pretrained(folder / "transformer")
        assert torch.equal(found.proj_out.weight, expected.proj_out.weight)


def test_a_pretrained_transformer_with_another_patch_size_is_refused(trained, tmp_path, ghn_folder):
    arguments = {"ghn_name_or_path": ghn_folder, "pretrained_model_name_or_path": str(trained / "pipeline")}
    with pytest.raises(ValueError, match="`patch_size` must be 8, .*but received 4"):
        run(script, tmp_path, patch_size=4, **TINY, **arguments)


def test_an_invalid_command_ends_with_one_clear_error(tmp_path):
    command = [sys.executable, script.__file__, "--output_dir", str(tmp_path / "nnit")]
    result = subprocess.run(command, env=cpu_environment(), capture_output=True, text=True)
    assert result.returncode == 1
    error = "ValueError: One of `ghn_name_or_path` and `dataset_name` must be given, but received None and None."
    assert result.stderr.splitlines()[-1] == error
    assert not list(tmp_path.iterdir())


def test_bad_requests_are_refused_before_anything_is_written(tmp_path, ghn_folder):
    with pytest.raises(ValueError, match="must be given, but received .*ghn' and 'weights'"):
        run(script, tmp_path / "a", ghn_name_or_path=ghn_folder, dataset_name="weights")
    with pytest.raises(ValueError, match=r"one of \[.*'digits'.*but received 'chess'"):
        run(script, tmp_path / "a", ghn_name_or_path=ghn_folder, task="chess")
    with pytest.raises(ValueError, match=r"one of \[\] in .*but received 'checkpoint-7'"):
        run(script, tmp_path / "a", ghn_name_or_path=ghn_folder, resume_from_checkpoint="checkpoint-7")
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_stops_the_training_run(tmp_path, ghn_folder):
    arguments = {**TINY, "learning_rate": 1e30, "muon_learning_rate": 1e30, "lr_warmup_steps": 0}
    with pytest.raises(FloatingPointError, match="The loss became .* at step 2; lower `learning_rate`"):
        run(script, tmp_path, ghn_name_or_path=ghn_folder, **arguments)
