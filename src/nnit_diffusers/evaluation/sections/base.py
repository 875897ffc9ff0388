"""What all sections of an evaluation share: the evaluator, and the parts that a section consists of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ...architecture import MLPArchitecture
from ...networks import MLP
from ...pipelines import NNiTPipeline
from ...tasks.base import Task
from ..config import EvaluationConfig
from ..scoring import EvaluationResult, evaluate, select_top


# Called with the number of networks that were generated since the last call.
NetworksCallback = Callable[[int], None]


class Part(NamedTuple):
    """A part of a section: the number of networks that the pipeline generates for it, and its computation."""

    num_networks: int
    compute: Callable[[], dict[str, Any]]


@dataclass
class Evaluator:
    """Pipeline, task and settings, shared by all sections.

    Parameters:
        pipe (`NNiTPipeline`): The pipeline, with its GHN.
        task (`Task`): The task that networks are scored on.
        config (`EvaluationConfig`): Settings, with all sizes set; see [`~EvaluationConfig.for_task`].
        on_networks (`NetworksCallback`): Called whenever the pipeline has generated networks.
    """

    pipe: NNiTPipeline
    task: Task
    config: EvaluationConfig
    on_networks: NetworksCallback

    def generator(self, *names: str) -> torch.Generator:
        """Random stream of one part of the evaluation. It does not depend on which other parts are computed."""
        key = ":".join((str(self.config.seed), *names))
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))

    def sample(self, region: str, num_architectures: int, generator: torch.Generator) -> list[MLPArchitecture]:
        """Distinct architectures of a region; fewer if it has fewer."""
        return self.task.regions.sample_distinct(region, num_architectures, generator)

    def generate(
        self, arch: Any, num_networks: int, generator: torch.Generator, num_steps: int | None = None, **budget: Any
    ) -> list[MLP]:
        """Networks of the pipeline; without `arch`, the model chooses their architectures."""
        output = self.pipe(
            arch,
            num_networks=num_networks,
            num_inference_steps=num_steps or self.config.num_inference_steps,
            generator=generator,
            **budget,
        )
        self.on_networks(len(output.networks))
        return output.networks

    def generate_by_ghn(
        self, architecture: MLPArchitecture, num_networks: int, generator: torch.Generator
    ) -> list[MLP]:
        """Networks of the GHN, of one architecture."""
        assert self.pipe.ghn is not None
        return self.pipe.ghn.generate([architecture] * num_networks, generator=generator)

    @property
    def is_screened(self) -> bool:
        """Whether all networks are scored on validation episodes, and only the best ones on test episodes."""
        return self.config.num_final_episodes is not None

    def results(self, networks: Sequence[MLP]) -> list[EvaluationResult]:
        """Scores all networks on test data; by success alone if they are screened, to save time."""
        if self.is_screened:
            return self.screen(networks, "test")
        return self.score(self.task, networks, "test", self.config.num_episodes)

    def screen(self, networks: Sequence[MLP], split: str = "validation") -> list[EvaluationResult]:
        """Scores networks by success alone, which is faster for rollouts in a simulator."""
        return self.score(self.task.for_screening(), networks, split, self.config.num_episodes)

    def score(
        self, task: Task, networks: Sequence[MLP], split: str, num_episodes: int | None
    ) -> list[EvaluationResult]:
        """Scores networks on the episodes of the evaluation's seed."""
        return evaluate(networks, task, num_episodes, self.config.seed, split=split, progress_bar=False)

    def select(self, networks: Sequence[MLP]) -> tuple[list[EvaluationResult], list[EvaluationResult]]:
        """Results of all networks, and of the best ones, chosen on validation data.

        By default all networks are scored on test data. With `num_final_episodes`, all networks are scored on
        validation episodes, by success alone, and only the best ones on test episodes, to the last step.
        """
        # choose the best on validation data
        validated = self.screen(networks)
        top = select_top([result.score for result in validated], min(self.config.num_selected, len(networks)))
        # score on test data
        if self.is_screened:
            finalists = [networks[index] for index in top]
            return validated, self.score(self.task, finalists, "test", self.config.num_final_episodes)
        results = self.results(networks)
        return results, [results[index] for index in top]


def describe(architecture: MLPArchitecture) -> dict[str, Any]:
    """Hidden sizes and number of parameters."""
    return {"hidden_sizes": list(architecture.hidden_sizes), "num_parameters": architecture.num_parameters}


def store(section: dict[str, Any], name: str, result: dict[str, Any]) -> None:
    """Adds the result of a part to its section."""
    section[name] = result


def is_stored(section: dict[str, Any], name: str) -> bool:
    """Whether a section has the result of a part."""
    return name in section


class Section(NamedTuple):
    """The parts of a section, and how they are stored in the report."""

    parts: Callable[[Evaluator], dict[str, Part]]
    store: Callable[[dict[str, Any], str, dict[str, Any]], None] = store
    is_stored: Callable[[dict[str, Any], str], bool] = is_stored
