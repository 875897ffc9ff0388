"""All training scripts under `torchrun`, which runs this file; the tests compare the results."""

import logging
import sys
from pathlib import Path

import pytest
import torch
import tyro
from accelerate import PartialState


sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import train_ghn
import train_nested
import train_nnit
from launching import TWO_PROCESSES, fresh_accelerate, launch, trainer_of

from nnit_diffusers.training.randomness import step_generator


COMMON = (
    "--max_train_steps 2 --checkpointing_steps 1 --lr_scheduler linear --lr_warmup_steps 0 "
    "--validation_architectures 1 "
    # The first step of Adam with a tiny epsilon divides tiny gradients by their own size, and with them the rounding.
    "--adam_epsilon 1e-3"
)
COMMAND_LINES = {
    train_nested: f"{COMMON} --train_batch_size 16 --learning_rate 0.01",
    train_ghn: f"{COMMON} --latent_dim 4 --node_dim 8 --map_channels 4 --num_templates 2 --num_architectures 1 "
    "--train_batch_size 16 --learning_rate 0.01",
    train_nnit: f"{COMMON} --num_layers 1 --num_attention_heads 1 --attention_head_dim 8 --train_batch_size 4 "
    "--latents_per_architecture 2 --architecture_batch_size 4 --dataloader_num_workers 1",
}
MODELS = {train_nested: "nested", train_ghn: "ghn", train_nnit: "transformer"}
SCRIPTS = pytest.mark.parametrize("script", list(MODELS), ids=lambda script: script.__name__)


def arguments(script, output_dir, *more):
    command_line = [*COMMAND_LINES[script].split(), "--output_dir", str(output_dir / script.__name__), *more]
    return tyro.cli(script.Arguments, args=command_line, use_underscores=True)


def source_of(script, output_dir):
    """Arguments that name the networks to learn from, for the script that needs them."""
    return ("--ghn_name_or_path", f"{output_dir}/train_ghn/ghn") if script is train_nnit else ()


def train_on_this_process(output_dir):
    """Trains with all scripts and saves the final parameters of this process."""
    logging.basicConfig(level=logging.INFO)
    for script in MODELS:
        training = trainer_of(arguments(script, output_dir, *source_of(script, output_dir)))
        process_index = training.accelerator.process_index
        training.run()
        torch.save(training.trained.state_dict(), output_dir / script.__name__ / f"process-{process_index}.pt")
    PartialState().destroy_process_group()


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_processes")
    log = launch(TWO_PROCESSES, __file__, str(folder))
    assert log.count("parameters on 2 process(es)") == len(MODELS)
    return folder


@SCRIPTS
def test_both_processes_have_the_same_final_weights(output_dir, script):
    first, second = (torch.load(output_dir / script.__name__ / f"process-{index}.pt") for index in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@SCRIPTS
def test_a_checkpoint_is_written_once_and_has_the_random_state_of_both(output_dir, script):
    folder, model = output_dir / script.__name__, MODELS[script]
    assert {path.name for path in folder.glob("*-*") if path.is_dir()} == {"checkpoint-1", "checkpoint-2"}
    for checkpoint in folder.glob("checkpoint-*"):
        assert {path.name for path in checkpoint.iterdir()} == {
            model,
            f"{model}_ema",
            "optimizer.bin",
            "custom_checkpoint_0.pkl",
            "random_states_0.pkl",
            "random_states_1.pkl",
        }


@SCRIPTS
def test_the_schedule_counts_optimisation_steps_and_ends_at_zero(output_dir, script):
    for step, scale in ((1, 0.5), (2, 0.0)):
        state = torch.load(output_dir / script.__name__ / f"checkpoint-{step}" / "custom_checkpoint_0.pkl")
        assert state["last_epoch"] == step
        assert state["_last_lr"] == [scale * peak for peak in state["base_lrs"]]


@SCRIPTS
def test_two_processes_train_on_twice_the_data(output_dir, script, tmp_path):
    # one process accumulates the batches of both
    with fresh_accelerate():
        training = trainer_of(
            arguments(script, tmp_path, "--gradient_accumulation_steps", "2", *source_of(script, output_dir))
        )
        training.train_step([training.prepare_batch(step_generator(0, 0, index)) for index in range(2)])
    model = training.trained
    folder = output_dir / script.__name__ / "checkpoint-1" / MODELS[script]
    for name, parameter in type(model).from_pretrained(folder).named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=1e-3, atol=1e-5)


if __name__ == "__main__":
    train_on_this_process(Path(sys.argv[1]))
