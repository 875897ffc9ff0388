"""Measures the training loss that each part of a pipeline adds: GHN, transformer and sampler.

    python benchmarks/locate_errors.py --task stackcube-easy \
        --data_dir outputs/stackcube-easy/demonstrations --pretrained_model_name_or_path nnit/stackcube-easy \
        --output_path docs/measurements/stackcube-easy_errors.json

Three kinds of networks are run on the task's training data:

- GHN samples,
- the same networks, noised and then restored by the transformer in one step, without a sampler,
- networks sampled from noise.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
import tyro
from tqdm.auto import tqdm

from nnit_diffusers import MLP, MLPArchitecture, NNiTPipeline, Task
from nnit_diffusers.flow import interpolate, timestep_of
from nnit_diffusers.markdown import markdown_table
from nnit_diffusers.network_batch import batched_forward, stack_state_dicts
from nnit_diffusers.provenance import provenance
from nnit_diffusers.tasks import load_task
from nnit_diffusers.training.transformer_losses import function_errors
from nnit_diffusers.writing import write_json


@dataclass
class Arguments:
    """Measures the parts of a pipeline that includes its GHN."""

    output_path: str
    """JSON file to write."""
    pretrained_model_name_or_path: str = "nnit/digits"
    """Pipeline: a folder or a Hub repository."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    data_dir: str | None = None
    """Folder of the task's data or demonstrations, or where to download them, if the task needs any."""
    region: Literal["seen", "held_out_combinations", "held_out_widths", "deeper", "wider"] = "held_out_widths"
    """Region to draw architectures from."""
    num_architectures: int = 6
    """Number of architectures."""
    num_networks: int = 8
    """Networks of each kind, for each architecture."""
    sigmas: tuple[float, ...] = (0.2, 0.5, 0.8)
    """Noise levels in 0...1 to restore GHN samples from."""
    batch_size: int = 4096
    """Training samples to run every network on."""
    num_inference_steps: int = 20
    """Denoising steps of sampled networks."""
    seed: int = 77
    """Seed of architectures, networks, noise and samples."""


@torch.no_grad()
def restore(
    pipe: NNiTPipeline, networks: Sequence[MLP], sigma: float, generator: torch.Generator, inputs: torch.Tensor
) -> tuple[list[MLP], list[float]]:
    """Networks that the transformer restores from noised ones in one step, and their function errors."""
    # noise, then predict clean patches
    batch = pipe.tokenizer.encode(networks)
    noise = torch.randn(batch.patches.shape, generator=generator) * batch.element_mask
    sigmas = torch.full((len(networks),), sigma)
    predicted = pipe.transformer(
        interpolate(batch.patches, noise, sigmas[:, None, None]),
        timestep_of(sigmas),
        batch.architecture_tokens,
        torch.zeros(len(networks)),
        batch.positions,
        attention_mask=batch.attention_mask,
    ).sample
    # decode, and compare outputs
    state_dicts = pipe.tokenizer.decode(predicted, batch.architectures)
    restored = [MLP.from_architecture(*pair) for pair in zip(batch.architectures, state_dicts)]
    errors = function_errors(predicted, batch.patches, batch.architectures, pipe.tokenizer, inputs)
    return restored, errors.tolist()


@torch.no_grad()
def losses_of(task: Task, networks: Sequence[MLP], inputs: torch.Tensor, targets: torch.Tensor) -> list[float]:
    """Training loss of each network; all networks have one architecture."""
    stacked = stack_state_dicts([network.state_dict() for network in networks])
    return task.loss(batched_forward(stacked, inputs, networks[0].architecture.activation), targets).tolist()


def measure(pipe: NNiTPipeline, task: Task, architecture: MLPArchitecture, arguments: Arguments) -> dict[str, Any]:
    """Losses of every kind of network, for one architecture."""
    # GHN samples
    generator = torch.Generator().manual_seed(arguments.seed)
    inputs, targets = task.training_batch(arguments.batch_size, generator)
    ghn_networks = pipe.ghn.generate([architecture] * arguments.num_networks, generator=generator)
    rows: dict[str, dict[str, Any]] = {"ghn": {"losses": losses_of(task, ghn_networks, inputs, targets)}}
    # restored
    for sigma in arguments.sigmas:
        restored, errors = restore(pipe, ghn_networks, sigma, generator, inputs)
        rows[f"restored from {sigma}"] = {
            "losses": losses_of(task, restored, inputs, targets),
            "function_error": fmean(errors),
        }
    # sampled from noise
    sampled = pipe(
        architecture,
        num_networks=arguments.num_networks,
        num_inference_steps=arguments.num_inference_steps,
        generator=generator,
    ).networks
    rows["sampled"] = {"losses": losses_of(task, sampled, inputs, targets)}
    return {name: {"loss": fmean(row["losses"]), **row} for name, row in rows.items()}


def main(arguments: Arguments) -> None:
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    pipe.set_progress_bar_config(disable=True)
    if pipe.ghn is None:
        raise ValueError(
            "`pretrained_model_name_or_path` must be a pipeline with a GHN, but received "
            f"{arguments.pretrained_model_name_or_path!r}, which has none."
        )
    task = load_task(arguments.task, arguments.data_dir).with_grid(**pipe.grid)
    # draw architectures
    generator = torch.Generator().manual_seed(arguments.seed)
    architectures = task.regions.sample(arguments.region, arguments.num_architectures, generator, distinct=True)
    # measure
    report = {
        "what": "Training loss of GHN samples, of the same networks noised and restored by the transformer in one "
        "step, and of networks sampled from noise. For restored networks also the function error: the squared "
        "difference of their outputs from those of the GHN sample, divided by the variance of the latter.",
        "arguments": asdict(arguments),
        **provenance(),
        "architectures": {
            "-".join(map(str, architecture.hidden_sizes)): measure(pipe, task, architecture, arguments)
            for architecture in tqdm(architectures, unit="architecture")
        },
    }
    # write and print
    write_json(Path(arguments.output_path), report)
    kinds = next(iter(report["architectures"].values()))
    rows = [[name, *(f"{row[kind]['loss']:.4f}" for kind in kinds)] for name, row in report["architectures"].items()]
    print(markdown_table(["Hidden sizes", *kinds], rows))


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
