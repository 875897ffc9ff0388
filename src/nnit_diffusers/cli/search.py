"""`nnit search`."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .command import Command, OptionalFloat, OptionalInt, OptionalStr, Report
from .sources import fetch, load_pipeline, load_task, write_spec


@dataclass(kw_only=True)
class Search(Command):
    """Find the smallest network that reaches a score on a task: a success rate, an accuracy or R².

    For example:

        nnit search nnit/digits --target 0.95 --output smallest
        nnit search nnit/digits --target 0.95 --max-parameters 4000 --max-latency-us 30 --output smallest

    The model generates networks of many sizes. Successive halving screens them on validation episodes, and the best of
    each size range are confirmed on separate test episodes. The winner is the smallest network whose lower 95%
    confidence bound reaches the target. The exit code is 1 if there is none.

    The output folder gets winner/ (the network), front.png, search.json (all networks, scores and latencies) and
    networks/. The same command resumes an interrupted search. In the folder of a finished search, another --target is
    answered at once.
    """

    after_interrupt = "The same command resumes the search."

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """Pipeline: a local folder or a Hub repository."""
    output: str
    """Folder to create, or folder of a search to resume."""
    task: OptionalStr = None
    """Name of the task, or module:name for a task of your own. Default: the task that MODEL was made for."""
    target: float = 0.95
    """Score that the winner has to reach, 0 to 1."""
    max_parameters: OptionalInt = None
    """Maximum number of weights and biases. Default: the largest network that the model chooses."""
    max_latency_us: OptionalFloat = None
    """Maximum latency for one input on one CPU thread of this machine, in microseconds. Default: no maximum."""
    max_flash: OptionalInt = None
    """Maximum bytes of weights in C code, as nnit export --format c reports them. Default: no maximum."""
    max_macs: OptionalInt = None
    """Maximum number of multiply-accumulates of a call. Default: no maximum."""
    quantize: Annotated[Literal["int8"] | None, arg(metavar="int8", help_behavior_hint="")] = None
    """Score networks with 8-bit weights, as nnit export --format c --quantize int8 exports them. Default: floats."""
    num_bands: OptionalInt = None
    """Number of size ranges (bands) to search. Default: chosen by the task."""
    networks_per_band: OptionalInt = None
    """Number of networks generated in each band. Default: chosen by the task."""
    screen_episodes: Annotated[tuple[int, ...] | None, arg(metavar="INT [INT ...]", help_behavior_hint="")] = None
    """Validation episodes for each network, a number per screening round. Default: chosen by the task."""
    reduction: OptionalInt = None
    """Each screening round keeps one network in this many, in each band. Default: chosen by the task."""
    num_confirm_episodes: OptionalInt = None
    """Test episodes for each network left after screening. Default: chosen by the task."""
    num_inference_steps: OptionalInt = None
    """Number of denoising steps; fewer are faster and less precise. Default: the number that MODEL was tuned for."""
    source: Annotated[Literal["nnit", "ghn", "nested"], arg(metavar="nnit|ghn|nested")] = "nnit"
    """Where the weights come from: the transformer, or the hypernetwork or nested slices of MODEL."""
    seed: int = 0
    """Random seed of the networks and the episodes."""
    num_workers: OptionalInt = None
    """Number of processes that run episodes, for simulated tasks. Default: one for each CPU that this process may
    use."""
    data_dir: OptionalStr = None
    """Folder where the task finds or downloads its data. Default: the task's own folder."""
    revision: OptionalStr = None
    """Branch, tag or commit of the Hub repository. Default: its main branch."""
    device: str = "cpu"
    """PyTorch device that runs the pipeline, such as cpu or cuda."""
    force: bool = False
    """Delete the search in the output folder and start again."""

    def run(self) -> Report:
        from ..network_search import search
        from ..network_search.report import plot_search, search_table
        from ..network_search.state import STATE_NAME, WINNER_NAME

        # load the task and the pipeline
        output = Path(self.output)
        folder = fetch(self.model, self.revision)
        task = load_task(self.task, self.data_dir, folder)
        pipe = load_pipeline(self.model, self.revision, self.device)
        pipe.set_progress_bar_config(disable=True)
        if self.force and (output / STATE_NAME).is_file():
            shutil.rmtree(output)

        # search, or resume a search
        result = search(
            pipe,
            task,
            output,
            target=self.target,
            max_parameters=self.max_parameters,
            max_latency_us=self.max_latency_us,
            max_flash=self.max_flash,
            max_macs=self.max_macs,
            quantize=self.quantize,
            num_bands=self.num_bands,
            networks_per_band=self.networks_per_band,
            screen_episodes=self.screen_episodes,
            reduction=self.reduction,
            num_confirm_episodes=self.num_confirm_episodes,
            num_inference_steps=self.num_inference_steps,
            source=self.source,
            seed=self.seed,
            num_workers=self.num_workers,
        )

        # the task travels with the networks
        write_spec(output, folder)
        if result.winner is not None:
            write_spec(output / WINNER_NAME, folder)

        # plot and report
        try:
            plot_search(result, output / "front.png")
        except ImportError as error:
            print(f"nnit search: front.png was not drawn. {error}", file=sys.stderr)

        text = f"{search_table(result)}\n\n"
        if result.winner is None:
            text += f"No network's lower bound reaches {self.target:.1%}."
        else:
            text += f"The smallest network that reaches {self.target:.1%} is in {output / 'winner'}."
            if self.quantize is not None:
                command = f"nnit export {output / 'winner'} --format c --quantize {self.quantize} --output policy.h"
                text += f" `{command}` writes it as it was scored."
        payload = {"output": str(output), "task": task.name, **result.to_dict()}
        return Report(payload, text, failed=result.winner is None)
