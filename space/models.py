"""What the page gets from a pipeline, within limits: networks, their scores, their files and their videos."""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from canvas import IMAGE_FORMATS
from numpy.typing import ArrayLike

from nnit_diffusers import MLP, EvaluationResult, MLPArchitecture, NNiTPipeline, Task, evaluate
from nnit_diffusers.cli.sources import fetch, load_pipeline, load_task, task_name_of
from nnit_diffusers.export import EXPORT_FORMATS, export_network
from nnit_diffusers.regions import ArchitectureRegions
from nnit_diffusers.tasks.images import ImageTask
from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.tasks.maniskill.environments import NoVulkanDeviceError, check_simulator
from nnit_diffusers.tasks.simulation.seeds import episode_seeds


logger = logging.getLogger(__name__)

MAX_NETWORKS = 8
MAX_STEPS = 20
MAX_SEED = 2**31 - 1
MAX_COMPARED = 6
MAX_SECONDS = 60.0
NUM_EPISODES = 10
NUM_FILMED = 2
DOWNLOADS = ("safetensors", "onnx")
# For pipelines of small networks, the page also offers widths far beyond those seen in training.
_WIDEST = 128
_DEFAULT_MODEL = "nnit/digits"


def model_names(root: str | Path = ".") -> list[str]:
    """Pipelines to show: those of `NNIT_MODELS`, or else folders under `nnit/`, or else `nnit/digits` of the Hub."""
    if os.environ.get("NNIT_MODELS"):
        return [name.strip() for name in os.environ["NNIT_MODELS"].split(",")]
    folders = sorted(Path(root).glob("nnit/*/model_index.json"))
    return [f"nnit/{path.parent.name}" for path in folders] or [_DEFAULT_MODEL]


@dataclass(frozen=True)
class Request:
    """A visitor's request.

    Parameters:
        hidden_sizes (`tuple[int, ...]`, *optional*): Widths; if `None`, the model chooses.
        max_parameters (`int`, *optional*): The parameter budget if the model chooses.
        num_networks (`int`): Networks to generate.
        steps (`int`): Denoising steps.
        seed (`int`): Seed of the networks.
    """

    hidden_sizes: tuple[int, ...] | None
    max_parameters: int | None
    num_networks: int
    steps: int
    seed: int


@dataclass
class Made:
    """Networks of one request.

    Parameters:
        networks (`list[MLP]`): The networks.
        seconds (`float`): Time to generate them.
        results (`list[EvaluationResult]`): Their scores on validation data or episodes; empty before scoring.
    """

    networks: list[MLP]
    seconds: float
    results: list[EvaluationResult] = field(default_factory=list)

    @property
    def best(self) -> int:
        """Index of the network with the highest score, the first of equals; 0 before scoring."""
        scores = [result.score for result in self.results]
        return scores.index(max(scores)) if scores else 0

    @property
    def shown(self) -> MLP:
        """The network that the page shows and offers for download."""
        return self.networks[self.best]

    @cached_property
    def folder(self) -> Path:
        """Temporary folder of this visitor's files, deleted by [`~Made.close`]."""
        return Path(tempfile.mkdtemp(prefix="nnit-space-"))

    def close(self) -> None:
        """Deletes the files."""
        if "folder" in self.__dict__:
            shutil.rmtree(self.folder, ignore_errors=True)

    def export(self) -> list[str]:
        """Writes the network shown to a file in each format of `DOWNLOADS`; returns the paths."""
        name = f"nnit-{self.shown.architecture}"
        paths = [self.folder / f"{name}{EXPORT_FORMATS[kind].suffix}" for kind in DOWNLOADS]
        return [str(export_network(self.shown, path, kind)) for path, kind in zip(paths, DOWNLOADS)]


@cache
def _cannot_simulate() -> str | None:
    try:
        check_simulator()
    except (ImportError, NoVulkanDeviceError):
        return (
            "This machine cannot run the robot simulator, which needs ManiSkill and a Vulkan device. The network can "
            "be viewed and downloaded, but not scored or filmed."
        )
    return None


class Model:
    """A pipeline with its task and the limits of requests.

    Parameters:
        name (`str`): Folder or Hub repository.
    """

    def __init__(self, name: str):
        self.name = name
        folder = fetch(name)
        self.pipe: NNiTPipeline = load_pipeline(name)
        self.pipe.set_progress_bar_config(disable=True)
        known = task_name_of(folder) is not None
        self.task: Task = load_task(None if known else Path(name).name, None, folder)
        report = folder / "evaluation.json"
        self.evaluation = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}

    @property
    def is_robot(self) -> bool:
        return isinstance(self.task, ManiSkillTask)

    @property
    def reads_drawings(self) -> bool:
        """Whether its networks classify images of digits."""
        return isinstance(self.task, ImageTask) and self.task.name in IMAGE_FORMATS

    @cached_property
    def regions(self) -> ArchitectureRegions:
        """Regions of architectures, seen in training and held out."""
        grid = self.evaluation.get("settings", {}).get("training_grid", {})
        return ArchitectureRegions(self.task.in_features, self.task.out_features, self.task.activation, **grid)

    @property
    def min_width(self) -> int:
        return self.regions.min_width

    @property
    def max_width(self) -> int:
        return max(self.regions.max_width, _WIDEST)

    @property
    def max_depth(self) -> int:
        """Maximum number of hidden layers, which may exceed that seen in training."""
        return self.pipe.tokenizer.config.max_depth

    @property
    def budgets(self) -> tuple[int, int]:
        """Parameters of the smallest and of the largest network that the model chooses."""
        deepest = self.pipe.config.max_depth or self.max_depth
        sizes = [self.min_width] * self.regions.min_depth, [self.pipe.transformer.config.max_width] * deepest
        least, most = (self.regions.architecture(hidden).num_parameters for hidden in sizes)
        return least, most

    @cached_property
    def default_steps(self) -> int:
        """Lowest number of steps whose mean scores are no lower than at the evaluation's own number of steps."""
        # mean score by number of steps and region
        usual = self.evaluation.get("settings", {}).get("num_inference_steps", MAX_STEPS)
        measured = self.evaluation.get("steps", {})
        means = {
            int(steps): {region: entry["mean"] for region, entry in row.items() if isinstance(entry, dict)}
            for steps, row in measured.items()
        }
        # fewest steps first
        for steps in sorted(means):
            if all(mean >= means.get(usual, {}).get(region, 1.0) for region, mean in means[steps].items()):
                return min(steps, MAX_STEPS)
        return min(usual, MAX_STEPS)

    @property
    def unit(self) -> str:
        """What scores are measured on."""
        kind = "image" if isinstance(self.task, ImageTask) else self.task.sample_name
        return f"{kind}s never trained on"

    @property
    def score_name(self) -> str:
        """What a score is."""
        return "Success" if self.task.sample_name == "episode" else self.task.metric.title

    def check(self, request: Request) -> None:
        """Raises `ValueError`, with a message for the page, if a request is out of bounds."""
        # bounds of every value
        bounds = {
            "networks": (request.num_networks, 1, MAX_NETWORKS),
            "steps": (request.steps, 1, MAX_STEPS),
            "seed": (request.seed, 0, MAX_SEED),
        }
        if request.hidden_sizes is not None:
            bounds["number of hidden layers"] = (len(request.hidden_sizes), 1, self.max_depth)
            widths = {f"width of layer {i + 1}": width for i, width in enumerate(request.hidden_sizes)}
            bounds |= {name: (width, self.min_width, self.max_width) for name, width in widths.items()}
        if request.max_parameters is not None:
            bounds["budget"] = (request.max_parameters, *self.budgets)
        # check
        for name, (value, least, most) in bounds.items():
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"The {name} must be an integer from {least:,} to {most:,}, but is {value!r}.")

    def generate(self, request: Request) -> Made:
        """The requested networks.

        Raises:
            `ValueError`: If the request is out of bounds.
            `TimeoutError`: If generation takes longer than `MAX_SECONDS`.
        """
        self.check(request)
        start = time.perf_counter()

        def stop_in_time(
            pipe: NNiTPipeline, step: int, timestep: torch.Tensor, tensors: dict[str, Any]
        ) -> dict[str, Any]:
            if time.perf_counter() - start > MAX_SECONDS:
                raise TimeoutError(f"Stopped after {MAX_SECONDS:.0f} s: request fewer or smaller networks.")
            return tensors

        # generate
        networks = self.pipe(
            None if request.hidden_sizes is None else list(request.hidden_sizes),
            num_networks=request.num_networks,
            num_inference_steps=request.steps,
            max_parameters=request.max_parameters,
            generator=torch.Generator().manual_seed(request.seed),
            callback_on_step_end=stop_in_time,
        ).networks
        return Made(networks, time.perf_counter() - start)

    def compare(self, widths: Sequence[int], depth: int, num_networks: int, seed: int) -> list[Made]:
        """Scored networks of one depth and several widths.

        Raises:
            `ValueError`: If the request is out of bounds, or networks cannot be scored here.
            `TimeoutError`: If generation takes longer than `MAX_SECONDS`.
        """
        if not 1 <= len(widths) <= MAX_COMPARED:
            raise ValueError(f"Choose 1 to {MAX_COMPARED} widths to compare.")
        if not isinstance(depth, int):
            raise ValueError(f"The number of hidden layers must be an integer, but is {depth!r}.")
        # generate and score, narrowest first
        all_made = []
        for width in sorted(widths):
            request = Request((width,) * depth, None, num_networks, self.default_steps, seed)
            all_made.append(self.generate(request))
            self.score(all_made[-1])
        return all_made

    def compared_widths(self) -> list[int]:
        """Widths to choose from, ascending in about equal ratios."""
        ratio = self.max_width / self.min_width
        steps = MAX_COMPARED - 1
        return [round(self.min_width * ratio ** (step / steps)) for step in range(steps + 1)]

    def cannot_score(self) -> str | None:
        """Why networks cannot be scored on this machine, or `None` if they can."""
        if self.is_robot:
            return _cannot_simulate()
        return self._has_no_data if isinstance(self.task, ImageTask) else None

    @cached_property
    def _has_no_data(self) -> str | None:
        """Why the images to score on are not there, or `None` if they are."""
        try:
            assert isinstance(self.task, ImageTask)
            self.task.data("validation")
        except (ImportError, OSError, ValueError) as error:
            logger.warning("No images of %s: %s", self.name, error)
            return "This machine lacks the images to score networks on. They can be viewed, tried and downloaded."
        return None

    def score(self, made: Made) -> None:
        """Scores networks on validation data or episodes.

        Raises:
            `ValueError`: If they cannot be scored on this machine.
        """
        if reason := self.cannot_score():
            raise ValueError(reason)
        num_episodes = NUM_EPISODES if self.task.sample_name == "episode" else None
        made.results = evaluate(made.networks, self.task, num_episodes, split="validation", progress_bar=False)

    def film(self, made: Made) -> tuple[str, int]:
        """Films the network shown in its first episodes; returns the video's path and the number of successes."""
        from nnit_diffusers.tasks.maniskill.video import record_video

        assert isinstance(self.task, ManiSkillTask)
        path = made.folder / "rollout.mp4"
        seeds = episode_seeds("validation", 0, NUM_FILMED)
        episodes = record_video(made.shown, self.task, path, seeds)
        return str(path), sum(episode.success_once for episode in episodes)

    def close(self) -> None:
        """Stops the simulator processes."""
        if isinstance(self.task, ManiSkillTask):
            self.task.close()

    def novelty(self, architecture: MLPArchitecture) -> str:
        """How the architecture relates to those seen in training, in words for the page."""
        return {
            "narrower": "narrower than any network the model has seen",
            "shallower": "shallower than any network the model has seen",
            "seen": "a shape like those in the training data",
            "held_out_combinations": "a combination of widths the model has never seen",
            "held_out_widths": "a width the model has never seen",
            "deeper": "deeper than any network the model has seen",
            "wider": "wider than any network the model has seen",
        }[self.regions.region_of(architecture.hidden_sizes)]

    @torch.no_grad()
    def read(self, networks: Sequence[MLP], digit: ArrayLike) -> torch.Tensor:
        """Class probabilities of B networks for one raw input: `[B, O]`."""
        inputs = torch.as_tensor(digit, dtype=torch.float32).reshape(1, -1)
        return torch.cat([network(inputs) for network in networks]).softmax(dim=-1)
