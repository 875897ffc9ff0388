"""`nnit export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .command import Command, OptionalStr, Report, check_new_file, check_new_folder
from .sources import load_networks


@dataclass(kw_only=True)
class Export(Command):
    """Write a network to a file, or a folder, for other programs.

    For example:

        nnit export networks/network-0 --format onnx --output digits.onnx
        nnit export networks/network-0 --format torch-export --output digits.pt2
        nnit export smallest/winner --format maniskill-ppo --output policy.pt
        nnit export networks/network-0 --format lerobot --output policy

    The formats:

        safetensors    state dict of an nn.Sequential: 0.weight, 0.bias, 2.weight, ...
        torch-export   torch.export.load(file).module(), any batch size
        onnx           input observations [batch, in], output outputs [batch, out]
        maniskill-ppo  --checkpoint of ManiSkill's examples/baselines/ppo/ppo.py
        cleanrl        state dict of the agent of CleanRL's ppo_continuous_action.py
        lerobot        a folder for --policy.path of LeRobot's commands

    The two for PPO are for the agents of those scripts: tanh, hidden sizes 256 256 256 and 64 64. With --adapted-agent
    any network is written; the error without it says what the script's actor has to be.
    """

    network: Annotated[Positional[str], arg(metavar="NETWORK")]
    """Saved network, a folder or a repository of the Hub; or a folder of nnit generate that holds one."""
    format: Literal["safetensors", "torch-export", "onnx", "maniskill-ppo", "cleanrl", "lerobot"]
    """What to write."""
    output: str
    """File to write, or folder to make for lerobot."""
    revision: OptionalStr = None
    """Branch, tag or commit of the Hub's repository."""
    adapted_agent: bool = False
    """For maniskill-ppo and cleanrl: the script's actor will be made to fit the network."""
    force: bool = False
    """Replace the file, or a folder that this command made."""

    def run(self) -> Report:
        from ..export import EXPORT_FORMATS, LEROBOT_PREPROCESSOR, export_network

        output = Path(self.output)
        if self.format == "lerobot":
            check_new_folder(output, self.force, LEROBOT_PREPROCESSOR)
        else:
            check_new_file(output, self.force)
        networks = load_networks(self.network, self.revision)
        if len(networks) > 1:
            raise ValueError(
                f"`NETWORK` must be a single network, but received {self.network!r} of {len(networks)}: name one, as "
                f"in {str(Path(self.network) / next(iter(networks)))!r}."
            )
        (network,) = networks.values()
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
