"""`nnit search`."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .command import Command, OptionalFloat, OptionalInt, OptionalStr, Report
from .sources import fetch, load_pipeline, load_task, task_name_of


@dataclass(kw_only=True)
class Search(Command):
    """Find the smallest network that does the job.

    For example:

        nnit search nnit/digits --target 0.95 --output smallest
        nnit search nnit/digits --target 0.95 --max-parameters 4000 --max-latency-us 30 --output smallest

    Networks of many sizes are generated, screened on validation episodes by successive halving, and the best of every
    size confirmed on test episodes, which have chosen nothing. The winner is the smallest whose lower 95% confidence
    bound reaches the target; exit code 1 if there is none.

    In the folder: winner/, a network like any other; front.png; search.json with every network, score and latency;
    networks/. Interrupted, the same command goes on; finished, it answers other targets at once.
    """

    after_interrupt = "The same command goes on from here."

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """Pipeline, a folder or a repository of the Hub."""
    output: str
    """Folder to make, or of a search to go on with."""
    task: OptionalStr = None
    """Task, or module:task; what the model says it is for by default."""
    target: float = 0.95
    """Success rate to reach; 0 to 1."""
    max_parameters: OptionalInt = None
    """Most parameters."""
    max_latency_us: OptionalFloat = None
    """Most microseconds for one input on one CPU thread of this machine."""
    num_bands: OptionalInt = None
    """Bands of size that are searched; this and the next four as fits the task by default."""
    networks_per_band: OptionalInt = None
    """Networks generated in each."""
    screen_episodes: Annotated[tuple[int, ...] | None, arg(metavar="INT [INT ...]", help_behavior_hint="")] = None
    """Validation episodes of each round of the screening."""
    reduction: OptionalInt = None
    """Of so many networks of a band, one goes on to the next round."""
    num_confirm_episodes: OptionalInt = None
    """Test episodes of each finalist."""
    num_inference_steps: int = 20
    """Denoising steps."""
    seed: int = 0
    """Decides networks and episodes."""
    num_workers: OptionalInt = None
    """Processes to run episodes in, for tasks that use any."""
    data_dir: OptionalStr = None
    """Where the task finds or downloads its data, if it needs any."""
    revision: OptionalStr = None
    """Branch, tag or commit of the Hub's repository."""
    device: str = "cpu"
    """Where the pipeline runs."""
    force: bool = False
    """Begin again, removing the search that is there."""

    def run(self) -> Report:
        from ..network_search import search
        from ..network_search.report import plot_search, search_table
        from ..network_search.state import STATE_NAME

        output = Path(self.output)
        task = load_task(self.task, self.data_dir, task_name_of(fetch(self.model, self.revision)))
        pipe = load_pipeline(self.model, self.revision, self.device)
        pipe.set_progress_bar_config(disable=True)
        if self.force and (output / STATE_NAME).is_file():
            shutil.rmtree(output)
        result = search(
            pipe,
            task,
            output,
            target=self.target,
            max_parameters=self.max_parameters,
            max_latency_us=self.max_latency_us,
            num_bands=self.num_bands,
            networks_per_band=self.networks_per_band,
            screen_episodes=self.screen_episodes,
            reduction=self.reduction,
            num_confirm_episodes=self.num_confirm_episodes,
            num_inference_steps=self.num_inference_steps,
            seed=self.seed,
            num_workers=self.num_workers,
        )
        try:
            plot_search(result, output / "front.png")
        except ImportError as error:
            print(f"nnit search: no picture. {error}", file=sys.stderr)

        text = f"{search_table(result)}\n\n"
        if result.winner is None:
            text += f"No network's lower bound reaches {self.target:.1%}."
        else:
            text += f"The smallest that reaches {self.target:.1%} is in {output / 'winner'}."
        payload = {"output": str(output), "task": task.name, **result.to_dict()}
        return Report(payload, text, failed=result.winner is None)
