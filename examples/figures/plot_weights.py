"""Draws the weights of 35 networks sampled from a GHN above those of 35 networks trained by SGD.

    python examples/figures/plot_weights.py --pretrained_model_name_or_path nnit/digits --output_dir docs/images

The networks have two hidden layers of equal width: seven widths, five networks each. The picture shows the weights
between the two hidden layers. Weights of GHN samples have a common structure across networks, which networks trained
one by one lack; this lets one model learn them all. The script trains the SGD networks, in less than a minute.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from nnit_diffusers import MLP, GraphHyperNetwork, MLPArchitecture, Task, evaluate
from nnit_diffusers.folding import fold_observation_statistics
from nnit_diffusers.network_batch import batched_forward, stack_state_dicts
from nnit_diffusers.tasks import load_task


# The largest magnitude of the colour scale, in units of the rms of the matrix.
LARGEST = 2.5


@dataclass
class Arguments:
    """Draws weights."""

    pretrained_model_name_or_path: str = "nnit/digits"
    """Pipeline whose `ghn` is drawn."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    output_dir: str = "docs/images"
    """Folder for `weights.png`."""
    widths: tuple[int, ...] = (16, 24, 32, 40, 48, 56, 64)
    """Widths of both hidden layers."""
    num_networks: int = 5
    """Networks of each width."""
    num_train_steps: int = 500
    """Steps of SGD (Adam)."""
    learning_rate: float = 3e-3
    """Learning rate of SGD."""
    train_batch_size: int = 128
    """Batch size of SGD."""
    seed: int = 0
    """Seed of latents, initialisations and batches."""


def train(task: Task, architecture: MLPArchitecture, arguments: Arguments) -> dict[str, torch.Tensor]:
    """Trains networks in parallel, each from its own initialisation; returns one stacked state dict."""
    # stack the initialisations
    torch.manual_seed(arguments.seed)
    networks = [MLP.from_architecture(architecture) for _ in range(arguments.num_networks)]
    stacked = stack_state_dicts([network.state_dict() for network in networks])
    parameters = {key: tensor.requires_grad_() for key, tensor in stacked.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=arguments.learning_rate)
    generator = torch.Generator().manual_seed(arguments.seed)
    # the sum of the losses trains every network as if alone
    for _ in range(arguments.num_train_steps):
        inputs, targets = task.training_batch(arguments.train_batch_size, generator)
        inputs = (inputs - task.observation_mean) / task.observation_std
        optimizer.zero_grad()
        task.loss(batched_forward(parameters, inputs, architecture.activation), targets).sum().backward()
        optimizer.step()
    return {key: tensor.detach() for key, tensor in parameters.items()}


@torch.no_grad()
def generate(ghn: GraphHyperNetwork, architecture: MLPArchitecture, arguments: Arguments) -> dict[str, torch.Tensor]:
    """GHN samples with the same latents for every architecture, as one stacked state dict."""
    shape = (arguments.num_networks, ghn.config.latent_dim)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(arguments.seed))
    return stack_state_dicts(ghn([architecture] * arguments.num_networks, latents))


def make_matrices(arguments: Arguments) -> dict[str, torch.Tensor]:
    """Weights between the hidden layers, `[B, W, W]`, for every source and width W; prints each mean accuracy."""
    task = load_task(arguments.task)
    ghn = GraphHyperNetwork.from_pretrained(arguments.pretrained_model_name_or_path, subfolder="ghn")
    matrices = {}
    for width in arguments.widths:
        architecture = task.regions.architecture([width, width])
        made = {"ghn": generate(ghn, architecture, arguments), "sgd": train(task, architecture, arguments)}
        for source, stacked in made.items():
            matrices[f"{source}.{width}"] = stacked["2.weight"].contiguous()
            # score on raw inputs
            folded = fold_observation_statistics(stacked, task.observation_mean, task.observation_std)
            networks = [
                MLP.from_architecture(architecture, {key: tensor[index] for key, tensor in folded.items()})
                for index in range(arguments.num_networks)
            ]
            results = evaluate(networks, task, split="validation", progress_bar=False)
            mean = sum(result.score for result in results) / len(results)
            print(f"[{width}, {width}] {source}: {mean:.1%} of the validation data on average")
    return matrices


def draw(matrices: dict[str, torch.Tensor], widths: tuple[int, ...]) -> Figure:
    """Draws a block of heat maps for each source, with a column for each width and a row for each network."""
    # layout
    num_networks = len(next(iter(matrices.values())))
    heights = (1.1 * num_networks + 0.5, 1.1 * num_networks + 0.5, 0.7)  # inches
    figure = Figure(figsize=(max(1.1 * len(widths), 5), sum(heights)), dpi=100, layout="constrained")
    *blocks, legend = figure.subfigures(3, 1, height_ratios=heights, squeeze=False).flat
    titles = {"ghn": "sampled from one GHN, a latent for each row", "sgd": "trained by SGD, an initialisation each"}
    # heat maps
    for block, (source, title) in zip(blocks, titles.items()):
        all_axes = block.subplots(num_networks, len(widths), squeeze=False)
        block.suptitle(title, fontsize=12)
        for column, width in enumerate(widths):
            for row, matrix in enumerate(matrices[f"{source}.{width}"]):
                axes = all_axes[row, column]
                magnitude = (matrix.abs() / matrix.square().mean().sqrt()).numpy()
                axes.imshow(magnitude, cmap="magma", vmin=0, vmax=LARGEST, interpolation="nearest")
                axes.set_axis_off()
            all_axes[0, column].set_title(f"[{width}, {width}]", fontsize=9)
    # colour scale
    colours = ScalarMappable(Normalize(0, LARGEST), cmap="magma")
    bar = figure.colorbar(colours, cax=legend.subplots(), orientation="horizontal", extend="max")
    bar.set_label("magnitude of the weights between the hidden layers, in units of their rms", fontsize=9)
    return figure


def main(arguments: Arguments) -> None:
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    draw(make_matrices(arguments), arguments.widths).savefig(output_dir / "weights.png")
    print(f"Wrote {output_dir / 'weights.png'}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
