"""`nnit export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .command import Command, OptionalStr, Report, check_new_file, check_new_folder
from .sources import FileOptions, load_networks


@dataclass(kw_only=True)
class Export(FileOptions, Command):
    """Convert a network to a file or folder that other programs load.

    For example:

        nnit export networks/network-0 --format onnx --output digits.onnx
        nnit export networks/network-0 --format torch-export --output digits.pt2
        nnit export smallest/winner --format maniskill-ppo --output policy.pt
        nnit export networks/network-0 --format lerobot --output policy

    The formats:

        safetensors    state dict of an nn.Sequential: 0.weight, 0.bias, 2.weight, ...
        torch-export   torch.export.load(file).module(), any batch size
        onnx           input observations [batch, in], output outputs [batch, out]
        maniskill-ppo  checkpoint for ManiSkill's examples/baselines/ppo/ppo.py
        cleanrl        checkpoint for CleanRL's ppo_continuous_action.py
        lerobot        folder for --policy.path of LeRobot

    The agents of the two PPO scripts have tanh activations. Their hidden sizes are 256 256 256 in ppo.py, and 64 64 in
    ppo_continuous_action.py. Any other network needs --adapted-agent and a changed script; the error without it shows
    the actor that the script needs.
    """

    network: Annotated[Positional[str], arg(metavar="NETWORK")]
    """Saved network: a local folder, a Hub repository, or a file that nnit evaluate reads. A folder of nnit generate
    must hold exactly one network."""
    format: Literal["safetensors", "torch-export", "onnx", "maniskill-ppo", "cleanrl", "lerobot"]
    """Format to write."""
    output: str
    """File to write; for lerobot, folder to create."""
    revision: OptionalStr = None
    """Branch, tag or commit of the Hub repository. Default: its main branch."""
    adapted_agent: bool = False
    """Write a network that does not fit the agent of the PPO script; the script's actor then has to be changed."""
    force: bool = False
    """Replace the file, or a folder that this command wrote."""

    def run(self) -> Report:
        from ..export import EXPORT_FORMATS, LEROBOT_PREPROCESSOR, export_network

        # check the output path before anything is loaded
        output = Path(self.output)
        if self.format == "lerobot":
            check_new_folder(output, self.force, LEROBOT_PREPROCESSOR)
        else:
            check_new_file(output, self.force)

        # load the network
        networks = load_networks(self.network, self.revision, self)
        if len(networks) > 1:
            raise ValueError(
                f"`NETWORK` must be a single network, but received {self.network!r}, which holds {len(networks)}: "
                f"name one, such as {str(Path(self.network) / next(iter(networks)))!r}."
            )
        (network,) = networks.values()

        # convert and write it
        options = {"adapted_agent": True} if self.adapted_agent else {}
        export_network(network, output, self.format, **options)
        payload = {
            "network": self.network,
            "format": self.format,
            "output": str(output),
            "num_bytes": sum(path.stat().st_size for path in (output, *output.rglob("*")) if path.is_file()),
            "architecture": network.architecture.to_dict(),
        }
        return Report(
            payload,
            f"{output}: {network.architecture}, {payload['num_bytes']:,} bytes, for "
            f"{EXPORT_FORMATS[self.format].summary}",
        )
