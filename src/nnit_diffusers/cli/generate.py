"""`nnit generate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from .command import Command, OptionalInt, OptionalStr, Report, check_new_folder
from .contracts import attach_contracts
from .sources import NETWORKS_NAME, fetch, load_pipeline, task_name_of, write_spec


if TYPE_CHECKING:
    from ..networks import MLP
    from ..pipelines import NNiTPipeline


@dataclass(kw_only=True)
class GenerationOptions:
    """Options of commands that generate networks."""

    arch: Annotated[UseAppendAction[tuple[tuple[int | None, ...], ...]], arg(metavar="WIDTH [WIDTH ...]")] = ()
    """Hidden layer widths of a network, as in --arch 48 40. The model chooses every width given as None. Default: the
    model chooses all widths and the depth."""
    num_networks: int = 1
    """Number of networks for each architecture."""
    min_parameters: OptionalInt = None
    """Minimum number of weights and biases of a network whose architecture the model chooses. Default: no minimum."""
    max_parameters: OptionalInt = None
    """Maximum number of weights and biases of a network whose architecture the model chooses. Default: no maximum."""
    num_inference_steps: OptionalInt = None
    """Number of denoising steps; fewer are faster and less precise. Default: the number that MODEL was tuned for."""
    temperature: float = 1.0
    """Sampling temperature of architectures that the model chooses; above 1 they vary more, near 0 less."""
    seed: int = 0
    """Random seed; the same seed gives the same networks."""
    revision: OptionalStr = None
    """Branch, tag or commit of the Hub repository. Default: its main branch."""
    device: str = "cpu"
    """PyTorch device that runs the pipeline, such as cpu or cuda."""

    def generation(self) -> dict[str, Any]:
        """The values of these options alone, JSON-ready."""
        names = GenerationOptions.__dataclass_fields__
        return {name: value for name, value in asdict(self).items() if name in names}

    def generate(self, pipe: NNiTPipeline) -> list[MLP]:
        """Generates the networks that the options request, on the CPU."""
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
    """Generate networks and save each in a folder of its own, with a list of all in networks.json.

    For example:

        # one network with hidden layers of 48 and 40 units
        nnit generate nnit/digits --arch 48 40 --output networks

        # 8 networks of that architecture
        nnit generate nnit/digits --arch 48 40 --num-networks 8 --seed 1 --output networks

        # two architectures
        nnit generate nnit/digits --arch 33 --arch 20 60 38 --output networks

        # the model chooses the second width
        nnit generate nnit/digits --arch 48 None --output networks

        # the model chooses 8 architectures of at most 4,000 parameters
        nnit generate nnit/digits --max-parameters 4000 --num-networks 8 --output networks

    In Python, MLP.from_pretrained("networks/network-0") loads a network.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """Pipeline: a local folder or a Hub repository."""
    output: str
    """Folder to create."""
    force: bool = False
    """Replace the output folder if this command wrote it."""

    def run(self) -> Report:
        from ..markdown import markdown_table
        from ..writing import replacing_folder

        output = Path(self.output)
        check_new_folder(output, self.force, NETWORKS_NAME)
        pipe = load_pipeline(self.model, self.revision, self.device)
        networks = self.generate(pipe)
        self.attach_contracts(pipe, networks, range(len(networks)))

        # save all networks, or none if interrupted
        with replacing_folder(output) as folder:
            listed = [self.save(folder, number, network, len(networks)) for number, network in enumerate(networks)]
            payload = self.save_list(folder, pipe, listed)

        # summary
        rows = [
            [entry["name"], str(entry["architecture"]["hidden_sizes"]), f"{entry['num_parameters']:,}"]
            for entry in listed
        ]
        table = markdown_table(["Network", "Hidden sizes", "Parameters"], rows)
        return Report({"output": str(output), **payload}, f"{table}\n\nSaved in {output}.")

    def attach_contracts(self, pipe: NNiTPipeline, networks: Sequence[MLP], numbers: Sequence[int]) -> None:
        """Gives the networks of these numbers in the request their contracts."""
        from ..pipelines.fingerprint import fingerprints

        model = fetch(self.model, self.revision)
        provenance = {"pipeline": self.model, "seed": self.seed, **fingerprints(pipe)}
        attach_contracts(networks, pipe, model, task_name_of(model), provenance, numbers)

    def save(self, folder: Path, number: int, network: MLP, num_networks: int) -> dict[str, Any]:
        """Saves a network in a folder of its own, and returns its entry in the list of all."""
        entry: dict[str, Any] = {
            "name": f"network-{number:0{len(str(num_networks - 1))}}",
            "architecture": network.architecture.to_dict(),
            "num_parameters": network.architecture.num_parameters,
        }
        network.save_pretrained(folder / entry["name"])
        write_spec(folder / entry["name"], fetch(self.model, self.revision))
        return entry

    def save_list(self, folder: Path, pipe: NNiTPipeline, listed: list[dict[str, Any]]) -> dict[str, Any]:
        """Writes the list of all networks, with how they were generated, and returns it."""
        from ..pipelines.fingerprint import fingerprints
        from ..provenance import provenance
        from ..writing import write_json

        model = fetch(self.model, self.revision)
        payload = {
            "model": self.model,
            "task": task_name_of(model),
            **fingerprints(pipe),
            "generation": self.generation(),
            "networks": listed,
            "provenance": provenance(),
        }
        write_json(folder / NETWORKS_NAME, payload)
        write_spec(folder, model)
        return payload
