"""Runs the training scripts: in separate processes, as users do, or in this process, to compare many runs."""

import os
import subprocess
import sys
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nnit_diffusers import GraphHyperNetwork, get_task
from nnit_diffusers.training import GHNTrainingConfig, NestedTrainingConfig
from nnit_diffusers.training.hypernetwork import GHNTrainer
from nnit_diffusers.training.nested import NestedTrainer
from nnit_diffusers.training.transformer import NNiTTrainer


ONE_PROCESS = ("accelerate.commands.launch", "--cpu", "--num_processes", "1")
# `accelerate launch --cpu --num_processes 2` quietly starts one.
TWO_PROCESSES = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")

# Settings of the smallest training runs.
TINY_NNIT = {
    "num_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "train_batch_size": 4,
    "latents_per_architecture": 2,
    "architecture_batch_size": 4,
    "lr_warmup_steps": 2,
    "max_train_steps": 6,
    "validation_architectures": 1,
}
TINY_GHN = {
    "latent_dim": 4,
    "node_dim": 8,
    "map_channels": 4,
    "num_templates": 2,
    "num_architectures": 2,
    "train_batch_size": 16,
    "validation_architectures": 1,
}


def flags(arguments):
    """Arguments as command-line flags."""
    return [part for name, value in arguments.items() for part in (f"--{name}", str(value))]


def cpu_environment():
    """Environment variables of a process on a machine without a GPU."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    return {**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def launch(launcher, script, *command_line):
    """Runs a script that must succeed, and returns its stderr."""
    command = [sys.executable, "-m", *launcher, script, *command_line]
    result = subprocess.run(command, env=cpu_environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stderr


@contextmanager
def fresh_accelerate(cpu=True):
    """Resets accelerate, which otherwise keeps its first settings for the lifetime of the process."""

    def forget():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", str(cpu).lower())
        forget()
        try:
            yield
        finally:
            forget()


def run(script, output_dir, **arguments):
    """Runs a script in this process; returns `output_dir`."""
    with fresh_accelerate():
        script.main(script.Arguments(output_dir=str(output_dir), **arguments))
    return Path(output_dir)


def trainer_of(arguments):
    """The training run that a script would begin with these arguments, before its first step."""
    task = get_task(arguments.task)
    if isinstance(arguments, GHNTrainingConfig):
        return GHNTrainer(task, arguments, arguments.output_dir)
    if isinstance(arguments, NestedTrainingConfig):
        return NestedTrainer(task, arguments, arguments.output_dir)
    source = GraphHyperNetwork.from_pretrained(arguments.ghn_name_or_path)
    return NNiTTrainer(task, source, arguments, arguments.output_dir)


def logged(output_dir, name):
    """Values of one metric by step."""
    (log_dir,) = (Path(output_dir) / "logs").iterdir()
    events = EventAccumulator(str(log_dir)).Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def files_of(folder):
    """Contents of all files in a folder and its subfolders, by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_state(state, other):
    """Nested states have the same values: tensors and numbers equal up to rounding, all others exactly."""
    assert type(state) is type(other)
    if isinstance(state, dict):
        assert state.keys() == other.keys()
        for name in state:
            assert_same_state(state[name], other[name])
    elif isinstance(state, (list, tuple)):
        assert len(state) == len(other)
        for part, other_part in zip(state, other):
            assert_same_state(part, other_part)
    elif isinstance(state, torch.Tensor):
        torch.testing.assert_close(state, other, rtol=1e-3, atol=1e-3 * (1e-8 + other.float().abs().max().item()))
    elif isinstance(state, np.ndarray):
        assert np.array_equal(state, other)
    elif isinstance(state, float):
        assert state == pytest.approx(other)
    else:
        assert state == other


def assert_same_files(folder, other):
    """Both folders have the same files: weights equal up to rounding, all others byte for byte.

    The position of a tensor in memory may change how sums are vectorised, and the first steps of an adaptive optimizer
    amplify this. A state lost on resuming would change weights by ten times as much.
    """
    contents, others = files_of(folder), files_of(other)
    assert contents.keys() == others.keys()
    for name, content in contents.items():
        if name.endswith(".safetensors"):
            torch.testing.assert_close(load(content), load(others[name]), rtol=1e-3, atol=1e-3)
        elif name.endswith((".bin", ".pkl")):
            # optimizer, schedule, and random states, which hold NumPy's
            state, other_state = (torch.load(BytesIO(part), weights_only=False) for part in (content, others[name]))
            assert_same_state(state, other_state)
        else:
            assert content == others[name]
