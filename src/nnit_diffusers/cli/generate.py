"""`nnit generate`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from .command import Command, OptionalInt, OptionalStr, Report, check_new_folder
from .sources import NETWORKS_NAME, fetch, load_pipeline, task_name_of


if TYPE_CHECKING:
    from ..networks import MLP
    from ..pipelines import NNiTPipeline


@dataclass(kw_only=True)
class GenerationOptions:
    """What is asked of a pipeline."""

    arch: Annotated[UseAppendAction[tuple[tuple[int | None, ...], ...]], arg(metavar="WIDTH [WIDTH ...]")] = ()
    """Hidden widths, as in --arch 48 40; None for one that the model is to choose. Without it, the model chooses all
    of the architecture."""
    num_networks: int = 1
    """Networks for each architecture asked for."""
    min_parameters: OptionalInt = None
    """Fewest parameters, where the model chooses."""
    max_parameters: OptionalInt = None
    """Most parameters, where the model chooses."""
    num_inference_steps: int = 20
    """Denoising steps; fewer are faster and less precise."""
    temperature: float = 1.0
    """Of the choice of architectures: above 1 more varied, towards 0 the likeliest."""
    seed: int = 0
    """Of the networks: the same seed gives the same ones."""
    revision: OptionalStr = None
    """Branch, tag or commit of the Hub's repository."""
    device: str = "cpu"
    """Where the pipeline runs."""

    def generation(self) -> dict[str, Any]:
        """These options alone, JSON-ready."""
        names = GenerationOptions.__dataclass_fields__
        return {name: value for name, value in asdict(self).items() if name in names}

    def generate(self, pipe: NNiTPipeline) -> list[MLP]:
        """The networks asked for, on the CPU."""
        import torch

        output: Any = pipe(
            [list(arch) for arch in self.arch] or None,
            num_networks=self.num_networks,
            num_inference_steps=self.num_inference_steps,
            min_parameters=self.min_parameters,
            max_parameters=self.max_parameters,
            temperature=self.temperature,
            generator=torch.Generator().manual_seed(self.seed),
        )
        return [network.cpu() for network in output.networks]


@dataclass(kw_only=True)
class Generate(GenerationOptions, Command):
    """Generate networks and save them: a folder each, and a list of all in networks.json.

    For example, one architecture, several networks of it, two architectures, one that the model fills in, a budget:

        nnit generate nnit/digits --arch 48 40 --output networks
        nnit generate nnit/digits --arch 48 40 --num-networks 8 --seed 1 --output networks
        nnit generate nnit/digits --arch 33 --arch 20 60 38 --output networks
        nnit generate nnit/digits --arch 48 None --output networks
        nnit generate nnit/digits --max-parameters 4000 --num-networks 8 --output networks

    In Python, MLP.from_pretrained("networks/network-0") loads one.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """Pipeline, a folder or a repository of the Hub."""
    output: str
    """Folder to make."""
    force: bool = False
    """Replace a folder that this command wrote."""

    def run(self) -> Report:
        from ..pipelines.fingerprint import fingerprint
        from ..utils import markdown_table, provenance, replacing_folder, write_json

        output = Path(self.output)
        check_new_folder(output, self.force, NETWORKS_NAME)
        pipe = load_pipeline(self.model, self.revision, self.device)
        networks = self.generate(pipe)
        digits = len(str(len(networks) - 1))
        listed: list[dict[str, Any]] = [
            {
                "name": f"network-{index:0{digits}}",
                "architecture": network.architecture.to_dict(),
                "num_parameters": network.architecture.num_parameters,
            }
            for index, network in enumerate(networks)
        ]
        payload = {
            "model": self.model,
            "task": task_name_of(fetch(self.model, self.revision)),
            "weights_sha256": fingerprint(pipe),
            "generation": self.generation(),
            "networks": listed,
            "provenance": provenance(),
        }
        with replacing_folder(output) as folder:
            for entry, network in zip(listed, networks):
                network.save_pretrained(folder / entry["name"])
            write_json(folder / NETWORKS_NAME, payload)
        rows = [
            [entry["name"], str(entry["architecture"]["hidden_sizes"]), f"{entry['num_parameters']:,}"]
            for entry in listed
        ]
        table = markdown_table(["Network", "Hidden sizes", "Parameters"], rows)
        return Report({"output": str(output), **payload}, f"{table}\n\nSaved in {output}.")
