"""Stage 2, optional: builds a weight dataset, to exchange or to train on instead of a GHN's stream.

    accelerate launch examples/build_weight_dataset.py --ghn_name_or_path outputs/digits/ghn/ghn --task digits \
        --output_dir outputs/digits/weights --num_networks 1000 --score
    accelerate launch examples/build_weight_dataset.py --networks_dir my_networks --task digits \
        --output_dir outputs/digits/weights --score

The networks are sampled from a GHN, or are your own, saved with `MLP.save_pretrained` in folders of `--networks_dir`.
Your own networks, if trained apart, have their hidden units in random order; `--match_weights` aligns them.
A shard depends only on its number and the arguments. Processes therefore divide the shards among them, and an
interrupted build resumes when run again, with the same dataset as the result. Different launchers may differ in the
last bits of the weights, because MKL may round differently under torchrun and accelerate. Set
`MKL_CBWR=COMPATIBLE` to avoid this.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from accelerate import Accelerator
from accelerate.logging import get_logger
from tqdm.auto import tqdm

from nnit_diffusers import MLP, GraphHyperNetwork, MLPArchitecture, Task, evaluate
from nnit_diffusers.data import ShardWriter, list_shards, match_weights, push_to_hub, shard_path, write_index
from nnit_diffusers.provenance import provenance
from nnit_diffusers.tasks import load_task
from nnit_diffusers.training.randomness import step_generator
from nnit_diffusers.writing import write_json


logger = get_logger(__name__)


@dataclass
class Arguments:
    """Builds a weight dataset of networks."""

    output_dir: str
    """Folder to write the dataset to."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    data_dir: str | None = None
    """Folder of the task's data, or where to download it, if the task needs any."""
    ghn_name_or_path: str | None = None
    """GHN to sample the networks from: a folder or a Hub repository."""
    networks_dir: str | None = None
    """Folder of your own networks instead, one folder each; the dataset records the region of each architecture."""
    seed: int = 0
    """Seed of architectures and latents."""
    region: Literal["seen", "held_out_combinations", "held_out_widths", "deeper", "wider"] = "seen"
    """Region to draw the architectures of GHN samples from."""
    num_networks: int = 1000
    """Networks to sample from the GHN."""
    networks_per_shard: int = 256
    """Networks per file."""
    match_weights: bool = False
    """Permute the hidden units of your own networks so that they resemble those of the first of each architecture."""
    score: bool = False
    """Score every network on the task's validation data."""
    push_to_hub: bool = False
    """Upload the dataset."""
    hub_dataset_id: str | None = None
    """Repository to upload to; the name of `output_dir` by default."""


class GHNNetworks:
    """GHN samples; every shard draws its own architectures and latents."""

    def __init__(self, ghn: GraphHyperNetwork, task: Task, arguments: Arguments):
        self.ghn, self.task, self.arguments = ghn, task, arguments

    def __len__(self) -> int:
        return self.arguments.num_networks

    def shard(self, number: int, start: int, stop: int) -> list[tuple[MLP, dict[str, Any]]]:
        """Networks `start…stop`, each with its origin."""
        generator = step_generator(self.arguments.seed, number)
        architectures = self.task.regions.sample(self.arguments.region, stop - start, generator)
        latents = torch.randn(stop - start, self.ghn.config.latent_dim, generator=generator)
        networks = self.ghn.generate(architectures, latents=latents.to(self.ghn.device))
        common = {"region": self.arguments.region, "origin": "ghn", "seed": self.arguments.seed}
        return [(network, {"latent": latent, **common}) for network, latent in zip(networks, latents.tolist())]


class SavedNetworks:
    """Networks saved with `MLP.save_pretrained`, in the order of their folder names.

    With `match`, hidden units are matched to those of the first network of the same architecture. This aligns networks
    of one architecture that were trained apart, but not those of different architectures.
    """

    def __init__(self, networks_dir: str, task: Task, match: bool = False):
        self.folders = sorted(path.parent for path in Path(networks_dir).rglob("config.json"))
        self.networks_dir, self.task = networks_dir, task
        # the first of each architecture, which the others are matched to
        self.references: dict[MLPArchitecture, MLP] = {}
        if match:
            for folder in self.folders:
                network = MLP.from_pretrained(folder)
                self.references.setdefault(network.architecture, network)
        if not self.folders:
            raise ValueError(
                f"`networks_dir` must hold networks saved with `save_pretrained`, but {networks_dir!r} has none."
            )

    def __len__(self) -> int:
        return len(self.folders)

    def shard(self, number: int, start: int, stop: int) -> list[tuple[MLP, dict[str, Any]]]:
        """Networks `start…stop`, each with its origin."""
        entries = []
        for folder in self.folders[start:stop]:
            network = self._matched(MLP.from_pretrained(folder))
            region = self.task.regions.region_of(network.architecture.hidden_sizes)
            entries.append((network, {"region": region, "origin": str(folder.relative_to(self.networks_dir))}))
        return entries

    def _matched(self, network: MLP) -> MLP:
        reference = self.references.get(network.architecture)
        if reference is None:
            return network
        statistics = (self.task.observation_mean.tolist(), self.task.observation_std.tolist())
        (state_dict,) = match_weights([network.state_dict()], reference.state_dict(), statistics)
        return MLP.from_architecture(network.architecture, state_dict)


def open_source(task: Task, arguments: Arguments, device: torch.device) -> GHNNetworks | SavedNetworks:
    """The source of networks that the arguments name."""
    if (arguments.ghn_name_or_path is None) == (arguments.networks_dir is None):
        raise ValueError(
            "One of `ghn_name_or_path` and `networks_dir` must be given, but received "
            f"{arguments.ghn_name_or_path!r} and {arguments.networks_dir!r}."
        )
    if arguments.match_weights and arguments.networks_dir is None:
        raise ValueError("`match_weights` must be left out for a GHN, whose networks are aligned, but received True.")
    if arguments.networks_dir is not None:
        return SavedNetworks(arguments.networks_dir, task, arguments.match_weights)
    return GHNNetworks(GraphHyperNetwork.from_pretrained(arguments.ghn_name_or_path).to(device), task, arguments)


def check_output_dir(output_dir: Path, build: dict[str, Any]) -> None:
    """Raises `ValueError` if the folder holds networks of another build, since builds must not be mixed."""
    path = output_dir / "build.json"
    earlier = json.loads(path.read_text())["build"] if path.exists() else None
    if earlier != build and (earlier or list_shards(output_dir)):
        raise ValueError(
            f"`output_dir` must be a new folder, or one of the same build, {build}, but {str(output_dir)!r} holds the "
            f"networks of {earlier or 'an unknown build'}."
        )


def write_shard(
    output_dir: Path, number: int, entries: list[tuple[MLP, dict[str, Any]]], task: Task, score: bool
) -> None:
    """Writes the networks of one shard, scored if `score`."""
    networks = [network for network, _ in entries]
    scores: list[float | None] = [None] * len(networks)
    if score:
        scores = [result.score for result in evaluate(networks, task, split="validation", progress_bar=False)]
    shard = ShardWriter(output_dir, number)
    for (network, where_from), network_score in zip(entries, scores):
        shard.add(network, task=task.name, score=network_score, **where_from)
    shard.write()


def main(arguments: Arguments) -> None:
    output_dir = Path(arguments.output_dir)
    # Without `cpu`, accelerate treats each CPU process of torchrun as the only one.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    task = load_task(arguments.task, arguments.data_dir)
    source = open_source(task, arguments, accelerator.device)

    # record the arguments that determine the networks
    ignored = ("output_dir", "data_dir", "push_to_hub", "hub_dataset_id")
    build = {name: value for name, value in asdict(arguments).items() if name not in ignored}
    build["num_networks"] = len(source)
    check_output_dir(output_dir, build)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process and not (output_dir / "build.json").exists():
        write_json(output_dir / "build.json", {"build": build, **provenance()})

    # write the missing shards of this process
    starts = range(0, len(source), arguments.networks_per_shard)
    numbers = range(accelerator.process_index, len(starts), accelerator.num_processes)
    logger.info(f"{len(source):,} networks in {len(starts)} shards on {accelerator.num_processes} process(es)")
    for number in tqdm(numbers, desc="Shards", disable=not accelerator.is_local_main_process):
        if not shard_path(output_dir, number).exists():
            stop = min(starts[number] + arguments.networks_per_shard, len(source))
            write_shard(output_dir, number, source.shard(number, starts[number], stop), task, arguments.score)

    # index, then upload
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_index(output_dir)
        logger.info(f"Wrote {output_dir}")
        if arguments.push_to_hub:
            logger.info(f"Uploaded to {push_to_hub(output_dir, arguments.hub_dataset_id or output_dir.name)}")
    accelerator.end_training()


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
