"""`nnit export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from .command import Command, OptionalInt, OptionalStr, Report, check_new_file, check_new_folder
from .sources import FileOptions, load_networks


if TYPE_CHECKING:
    from ..architecture import MLPArchitecture


@dataclass(kw_only=True)
class Export(FileOptions, Command):
    """Convert a network to a file or folder that other programs load.

    For example:

        nnit export networks/network-0 --format onnx --output digits.onnx
        nnit export networks/network-0 --format torch-export --output digits.pt2
        nnit export smallest/winner --format maniskill-ppo --output policy.pt
        nnit export networks/network-0 --format lerobot --output policy

    For devices:

        nnit export smallest/winner --format c --quantize int8 --output policy.h
        nnit export smallest/winner --format onnx --batch-size 1 --clip-low -1 --clip-high 1 --output policy.onnx

    Formats of programs that run networks:

        safetensors    state dict of an nn.Sequential: 0.weight, 0.bias, 2.weight, ...
        torch-export   torch.export.load(file).module(), any batch size
        onnx           input observations [batch, in], output outputs [batch, out]
        c              one header for C99 and C++, for microcontrollers

    Formats of libraries for robots and reinforcement learning:

        maniskill-ppo  checkpoint for ManiSkill's examples/baselines/ppo/ppo.py
        cleanrl        checkpoint for CleanRL's ppo_continuous_action.py
        rsl-rl         checkpoint for OnPolicyRunner.load of RSL-RL
        sb3            model for PPO.load of Stable-Baselines3
        lerobot        folder for --policy.path of LeRobot

    The agents of the two PPO scripts have tanh activations. Their hidden sizes are 256 256 256 in ppo.py, and 64 64 in
    ppo_continuous_action.py. Any other network needs --adapted-agent and a changed script; the error without it shows
    the actor that the script needs.

    What a network means travels with it: in the file, or in OUTPUT.contract.json where the format has no room.
    """

    network: Annotated[Positional[str], arg(metavar="NETWORK")]
    """Saved network: a local folder, a Hub repository, or a file that nnit evaluate reads. A folder of nnit generate
    must hold exactly one network."""
    format: Literal["safetensors", "torch-export", "onnx", "c", "maniskill-ppo", "cleanrl", "rsl-rl", "sb3", "lerobot"]
    """Format to write."""
    output: str
    """File to write; for lerobot, folder to create."""
    revision: OptionalStr = None
    """Branch, tag or commit of the Hub repository. Default: its main branch."""
    adapted_agent: bool = False
    """Write a network that does not fit the agent of the PPO script; the script's actor then has to be changed."""
    quantize: Annotated[Literal["int8"] | None, arg(help_behavior_hint="")] = None
    """For c: 8-bit weights and integer arithmetic. Default: 32-bit floats."""
    prefix: OptionalStr = None
    """For c: prefix of all names, so that several networks fit in one program. Default: nnit."""
    batch_size: OptionalInt = None
    """For onnx: fix the batch size, for converters that need it. Default: any batch size."""
    clip_actions: bool = False
    """For onnx, torch-export, c and sb3: clip the outputs to the bounds of the actions that the network records."""
    clip_low: Annotated[tuple[float, ...] | None, arg(metavar="FLOAT [FLOAT ...]", help_behavior_hint="")] = None
    """Clip the outputs at this lower bound, one number or one for each output. Needs --clip-high."""
    clip_high: Annotated[tuple[float, ...] | None, arg(metavar="FLOAT [FLOAT ...]", help_behavior_hint="")] = None
    """The upper bound."""
    force: bool = False
    """Replace the file, or a folder that this command wrote."""

    def run(self) -> Report:
        from ..export import EXPORT_FORMATS, LEROBOT_PREPROCESSOR, contract_path, export_network

        # check the options and the output path before anything is loaded
        options = self._options()
        output = Path(self.output)
        if self.format == "lerobot":
            check_new_folder(output, self.force, LEROBOT_PREPROCESSOR)
        else:
            check_new_file(output, self.force)
        check_new_file(contract_path(output), self.force)

        # load the network
        networks = load_networks(self.network, self.revision, self)
        if len(networks) > 1:
            raise ValueError(
                f"`NETWORK` must be a single network, but received {self.network!r}, which holds {len(networks)}: "
                f"name one, such as {str(Path(self.network) / next(iter(networks)))!r}."
            )
        (network,) = networks.values()

        # convert and write it
        export_network(network, output, self.format, **options)
        beside = contract_path(output)
        payload = {
            "network": self.network,
            "format": self.format,
            "output": str(output),
            "contract": str(beside) if beside.exists() else None,
            "num_bytes": sum(path.stat().st_size for path in (output, *output.rglob("*")) if path.is_file()),
            "architecture": network.architecture.to_dict(),
        }
        text = (
            f"{output}: {network.architecture}, {payload['num_bytes']:,} bytes, for "
            f"{EXPORT_FORMATS[self.format].summary}"
        )
        details, line = self._details(network.architecture, "clip_actions" in options)
        return Report({**payload, **details}, f"{text}{line}")

    def _options(self) -> dict[str, Any]:
        """Arguments of the exporter.

        Raises:
            `ValueError`: If only one bound is given.
        """
        if (self.clip_low is None) != (self.clip_high is None):
            given, missing = ("low", "high") if self.clip_high is None else ("high", "low")
            raise ValueError(f"`--clip-{missing}` must be given with `--clip-{given}`, but received none.")
        options: dict[str, Any] = {
            "adapted_agent": self.adapted_agent or None,
            "quantize": self.quantize,
            "prefix": self.prefix,
            "batch_size": self.batch_size,
            "clip_actions": self.clip_actions or None,
        }
        if self.clip_low is not None:
            options["clip_actions"] = (self.clip_low, self.clip_high)
        return {name: value for name, value in options.items() if value is not None}

    def _details(self, architecture: MLPArchitecture, clips: bool) -> tuple[dict[str, Any], str]:
        """What else a user of the format has to know, as JSON and as a line of text."""
        from ..export import footprint, rsl_rl_settings

        if self.format == "c":
            costs = footprint(architecture, self.quantize, clips)
            line = (
                f"\nflash: {costs.weight_bytes:,} bytes of weights, code not counted; RAM: {costs.buffer_bytes:,} "
                f"bytes of buffers; {costs.multiply_accumulates:,} multiply-accumulates for each action"
            )
            return {"footprint": costs.to_dict()}, line
        if self.format == "rsl-rl":
            settings = rsl_rl_settings(architecture)
            shown = ", ".join(f"{name}={value!r}" for name, value in settings.items())
            return {"settings": settings}, f"\nactor and critic of the runner need {shown}"
        return {}, ""
