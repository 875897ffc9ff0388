"""`nnit evaluate`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from .command import Command, OptionalFloat, OptionalInt, OptionalStr, Report, check_new_file
from .contracts import check_contracts
from .generate import GenerationOptions
from .sources import FileOptions, fetch, is_file, kind_of, load_networks, load_pipeline, load_task, task_name_of


if TYPE_CHECKING:
    from ..evaluation import EvaluationResult
    from ..networks import MLP
    from ..tasks import Task


@dataclass(kw_only=True)
class Evaluate(GenerationOptions, FileOptions, Command):
    """Score networks on a task, side by side in the same episodes, each with a 95% confidence interval.

    For example:

        # all networks that nnit generate saved
        nnit evaluate networks

        # two single networks
        nnit evaluate networks/network-0 smallest/winner

        # new networks, which are not saved
        nnit evaluate nnit/digits --arch 48 40 --num-networks 20

        # policies that others trained, beside one that a pipeline generates
        nnit evaluate policy.onnx model_1499.pt nnit/pickcube --arch 64 64 --task pickcube

        # exit code 1 if a network scores less than 95%
        nnit evaluate networks --min-score 0.95

        # a task of your own, which my_tasks.py registers
        nnit evaluate networks --task my_tasks:my_task

    The options of nnit generate, --arch to --device, apply to every SOURCE that is a pipeline; --revision always does.
    Files are read that nnit export writes, and checkpoints of ManiSkill, CleanRL, Stable-Baselines3 and RSL-RL:
    docs/policies.md lists them.
    """

    sources: Annotated[
        Positional[tuple[str, ...]], arg(metavar="SOURCE [SOURCE ...]", help_behavior_hint="(required)")
    ]
    """Files of networks, saved networks and pipelines, in any mixture: files, local folders or Hub repositories."""
    task: OptionalStr = None
    """Name of the task, or module:name for a task of your own. Default: the task that SOURCE was made for."""
    data_dir: OptionalStr = None
    """Folder where the task finds or downloads its data. Default: the task's own folder."""
    split: Literal["train", "validation", "test"] = "test"
    """Data split to score on. Choose networks on validation, report results on test."""
    num_episodes: OptionalInt = None
    """Episodes for each network; samples, for a data set. Default: chosen by the task."""
    episode_seed: int = 0
    """Random seed that chooses the episodes, the same ones for every network."""
    num_workers: OptionalInt = None
    """Number of processes that run episodes, for simulated tasks. Default: one for each CPU that this process may
    use."""
    quantize: Annotated[Literal["int8"] | None, arg(metavar="int8", help_behavior_hint="")] = None
    """Score networks with 8-bit weights, as nnit export --format c --quantize int8 exports them. Default: floats."""
    min_score: OptionalFloat = None
    """Exit with code 1 if any network scores less than this, 0 to 1. Default: no threshold."""
    output: OptionalStr = None
    """JSON file that also gets the result. Default: none."""
    force: bool = False
    """Replace the output file if it exists."""

    def run(self) -> Report:
        from ..evaluation import evaluate
        from ..export import quantize
        from ..provenance import provenance
        from ..writing import write_json

        if not self.sources:
            raise ValueError("`SOURCE` must name networks or a pipeline, but received nothing.")
        if self.output is not None:
            check_new_file(Path(self.output), self.force)

        # find the task, then load or generate the networks
        folders = [None if is_file(source) else fetch(source, self.revision) for source in self.sources]
        task = load_task(self.task, self.data_dir, self.folder_of_task([each for each in folders if each is not None]))
        names, networks = zip(*self.networks(folders))
        check_contracts(names, networks, task, self.task is not None, self.num_workers)

        # score them, as they are or as they run on a chip
        scored = networks if self.quantize is None else [quantize(network) for network in networks]
        results = evaluate(scored, task, self.num_episodes, self.episode_seed, self.num_workers, split=self.split)
        payload: dict[str, Any] = {
            "task": task.name,
            "split": self.split,
            "episode_seed": self.episode_seed,
            "quantize": self.quantize,
            "mean_score": statistics.fmean(result.score for result in results),
            "min_score": min(result.score for result in results),
            "networks": [{"name": name, **result.to_dict()} for name, result in zip(names, results)],
            "provenance": provenance(),
        }
        if self.output is not None:
            write_json(self.output, payload)

        table = _table(task, names, results)
        failed = self.min_score is not None and payload["min_score"] < self.min_score
        weights = "" if self.quantize is None else f", {self.quantize} weights"
        summary = f"{task.name}, {self.split}{weights}: mean {payload['mean_score']:.1%}, "
        summary += f"minimum {payload['min_score']:.1%}."
        verdict = f" Less than --min-score {self.min_score}." if failed else ""
        return Report(payload, f"{table}\n\n{summary}{verdict}", failed)

    def folder_of_task(self, folders: list[Path]) -> Path | None:
        """A folder that records the task of all sources, or `None` if none does.

        Raises:
            `ValueError`: If the folders record several tasks, and `--task` does not name one.
        """
        named = {task_name_of(folder): folder for folder in folders}
        named.pop(None, None)
        if self.task is None and len(named) > 1:
            raise ValueError(
                f"`SOURCE` must be networks of one task, but received networks of {sorted(map(str, named))}; `--task` "
                "names the one to score all of them on."
            )
        return next(iter(named.values())) if len(named) == 1 else None

    def networks(self, folders: list[Path | None]) -> list[tuple[str, MLP]]:
        """Networks of all sources, in their order: read from files, loaded, or generated by pipelines; with names.

        Parameters:
            folders (`list[Path | None]`): Local folder of every source; `None` for a file.
        """
        kinds = [
            "file" if folder is None else kind_of(folder, source) for folder, source in zip(folders, self.sources)
        ]
        self._check_options(kinds)
        named: list[tuple[str, MLP]] = []
        took_activation = False
        for source, kind in zip(self.sources, kinds):
            if kind == "pipeline":
                generated = self.generate(load_pipeline(source, self.revision, self.device))
                of_source = {f"network-{index}": network for index, network in enumerate(generated)}
            elif kind == "file":
                of_source, took = self._of_file(source)
                took_activation |= took
            else:
                of_source = load_networks(source, self.revision)
            # prefix the names with the source if there are several
            prefix = f"{source.rstrip('/')}/" if len(self.sources) > 1 and source not in of_source else ""
            named += [(f"{prefix}{name}", network) for name, network in of_source.items()]
        if self.activation is not None and not took_activation:
            raise ValueError(f"`--activation` must be for a file that records none, but received {self.activation!r}.")
        return named

    def _of_file(self, source: str) -> tuple[dict[str, MLP], bool]:
        """The network in a file, and whether it took `--activation`, which is for files that do not record theirs."""
        from ..checkpoints import ActivationIsRecorded

        try:
            return load_networks(source, options=self), self.activation is not None
        except ActivationIsRecorded:
            return load_networks(source, options=FileOptions(ignore_clip=self.ignore_clip)), False

    def _check_options(self, kinds: list[str]) -> None:
        """Raises `ValueError` if options would have no effect, because no source is a pipeline, or none a file."""
        given = self.generation()
        unused = [name for name, value in GenerationOptions().generation().items() if given[name] != value]
        unused = [f"--{name.replace('_', '-')}" for name in unused if name != "revision"]
        if unused and "pipeline" not in kinds:
            raise ValueError(f"`SOURCE` must be a pipeline to use the options {unused}, but received saved networks.")
        if "file" not in kinds:
            self.check_unused(list(self.sources))


def _table(task: Task, names: Sequence[str], results: Sequence[EvaluationResult]) -> str:
    """A row for every network."""
    from ..markdown import markdown_table

    has_returns = any(result.mean_return_interval is not None for result in results)
    rows = [
        [
            name,
            "-" if result.architecture is None else str(list(result.architecture.hidden_sizes)),
            "-" if result.architecture is None else f"{result.architecture.num_parameters:,}",
            f"{result.score:.1%}",
            "{:.1%} to {:.1%}".format(*result.confidence_interval),
            f"{result.num_episodes:,}"
            if result.num_successes is None
            else f"{result.num_successes:,} of {result.num_episodes:,}",
            *([_mean_return(result)] if has_returns else []),
        ]
        for name, result in zip(names, results)
    ]
    header = ["Network", "Hidden sizes", "Parameters", task.metric.title, "95% interval"]
    header.append("Successes" if task.metric.is_share else f"{task.sample_name.capitalize()}s")
    return markdown_table([*header, *(["Mean return, 95% interval"] if has_returns else [])], rows)


def _mean_return(result: EvaluationResult) -> str:
    """Mean return of a network with its interval, if it was measured."""
    if result.mean_return_interval is None:
        return "-"
    low, high = result.mean_return_interval
    return f"{result.metrics['mean_return']:,.1f} ({low:,.1f} to {high:,.1f})"
