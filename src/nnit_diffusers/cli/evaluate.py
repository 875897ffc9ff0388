"""`nnit evaluate`."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from .command import Command, OptionalFloat, OptionalInt, OptionalStr, Report, check_new_file
from .generate import GenerationOptions
from .sources import fetch, kind_of, load_networks, load_pipeline, load_task, task_name_of


if TYPE_CHECKING:
    from ..networks import MLP


@dataclass(kw_only=True)
class Evaluate(GenerationOptions, Command):
    """Score networks on a task, each with its 95% interval.

    For example, what nnit generate wrote, single networks, networks generated for it and not kept, a check that fails
    with exit code 1, and a task of your own, which my_tasks.py registers:

        nnit evaluate networks
        nnit evaluate networks/network-0 smallest/winner
        nnit evaluate nnit/digits --arch 48 40 --num-networks 20
        nnit evaluate networks --min-score 0.95
        nnit evaluate networks --task my_tasks:my_task

    The options of nnit generate are for pipelines.
    """

    sources: Annotated[Positional[tuple[str, ...]], arg(metavar="SOURCE [SOURCE ...]")]
    """Saved networks, or one pipeline: folders or repositories of the Hub."""
    task: OptionalStr = None
    """Task, or module:task; what the sources say they are for by default."""
    data_dir: OptionalStr = None
    """Where the task finds or downloads its data, if it needs any."""
    split: Literal["train", "validation", "test"] = "test"
    """Which of the task's samples or episodes. Select on validation, report on test."""
    num_episodes: OptionalInt = None
    """Episodes (samples, of a data set) for each network; the task's own number by default."""
    episode_seed: int = 0
    """Chooses the episodes, the same ones for every network."""
    num_workers: OptionalInt = None
    """Processes to run episodes in, for tasks that use any."""
    min_score: OptionalFloat = None
    """Fail, with exit code 1, unless every network reaches it; 0 to 1."""
    output: OptionalStr = None
    """JSON file to write the result to as well."""
    force: bool = False
    """Replace that file."""

    def run(self) -> Report:
        from ..evaluation import evaluate
        from ..utils import markdown_table, provenance, write_json

        if not self.sources:
            raise ValueError("`SOURCE` must name networks or a pipeline, but received nothing.")
        if self.output is not None:
            check_new_file(Path(self.output), self.force)
        folders = [fetch(source, self.revision) for source in self.sources]
        suggested = {name for name in map(task_name_of, folders) if name is not None}
        task = load_task(self.task, self.data_dir, suggested.pop() if len(suggested) == 1 else None)
        names, networks = zip(*self.networks(folders))
        results = evaluate(networks, task, self.num_episodes, self.episode_seed, self.num_workers, split=self.split)
        payload: dict[str, Any] = {
            "task": task.name,
            "split": self.split,
            "episode_seed": self.episode_seed,
            "mean_score": statistics.fmean(result.score for result in results),
            "min_score": min(result.score for result in results),
            "networks": [{"name": name, **result.to_dict()} for name, result in zip(names, results)],
            "provenance": provenance(),
        }
        if self.output is not None:
            write_json(self.output, payload)
        rows = [
            [
                name,
                str(list(result.architecture.hidden_sizes)),
                f"{result.architecture.num_parameters:,}",
                f"{result.score:.1%}",
                "{:.1%} to {:.1%}".format(*result.confidence_interval),
                f"{result.num_successes:,} of {result.num_episodes:,}",
            ]
            for name, result in zip(names, results)
        ]
        table = markdown_table(["Network", "Hidden sizes", "Parameters", "Score", "95% interval", "Right"], rows)
        failed = self.min_score is not None and payload["min_score"] < self.min_score
        summary = f"{task.name}, {self.split}: mean {payload['mean_score']:.1%}, worst {payload['min_score']:.1%}."
        verdict = f" Worse than --min-score {self.min_score}." if failed else ""
        return Report(payload, f"{table}\n\n{summary}{verdict}", failed)

    def networks(self, folders: list[Path]) -> list[tuple[str, MLP]]:
        """The networks that the sources stand for, with their names."""
        kinds = {kind_of(folder, source) for folder, source in zip(folders, self.sources)}
        if "pipeline" in kinds:
            if len(self.sources) > 1:
                raise ValueError(
                    f"`SOURCE` must be one pipeline or any number of networks, but received {list(self.sources)}."
                )
            generated = self.generate(load_pipeline(self.sources[0], self.revision, self.device))
            return [(f"network-{index}", network) for index, network in enumerate(generated)]
        given = self.generation()
        unused = [name for name, value in GenerationOptions().generation().items() if given[name] != value]
        unused = [f"--{name.replace('_', '-')}" for name in unused if name != "revision"]
        if unused:
            raise ValueError(f"`SOURCE` must be a pipeline to use {unused} of, but received saved networks.")
        networks: list[tuple[str, MLP]] = []
        for source in self.sources:
            of_source = load_networks(source, self.revision)
            prefix = f"{source.rstrip('/')}/" if len(self.sources) > 1 and source not in of_source else ""
            networks += [(f"{prefix}{name}", network) for name, network in of_source.items()]
        return networks
