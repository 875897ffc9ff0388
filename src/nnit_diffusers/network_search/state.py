"""State of a search, saved in `search.json` and `networks/` of its folder so that an interrupted search can resume."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE

from ..architecture import MLPArchitecture
from ..contract import read_contract
from ..evaluation import EvaluationResult
from ..loading.limits import shown
from ..loading.local import check_name, read_json_object, read_weights
from ..networks import MLP
from ..tasks import Score
from ..writing import replacing_folder, write_json
from .chip import ChipLimits


T = TypeVar("T")

STATE_NAME = "search.json"
NETWORKS_NAME = "networks"
WINNER_NAME = "winner"


@dataclass
class Candidate:
    """One generated network of a search.

    Parameters:
        name (`str`): Name of its folder in `networks/` of the search.
        band (`int`): Band of parameter counts it was generated for.
        architecture ([`MLPArchitecture`]): Architecture of the network.
        latency_us (`float`, *optional*): Median latency of a call in microseconds; see [`measure_latencies`].
        screenings (`list[EvaluationResult]`): Result of each screening round it took part in.
        confirmation (`EvaluationResult`, *optional*): Result on the test episodes, for a finalist.
    """

    name: str
    band: int
    architecture: MLPArchitecture
    latency_us: float | None = None
    screenings: list[EvaluationResult] = field(default_factory=list)
    confirmation: EvaluationResult | None = None

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases."""
        return self.architecture.num_parameters

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "name": self.name,
            "band": self.band,
            "architecture": self.architecture.to_dict(),
            "num_parameters": self.num_parameters,
            "latency_us": self.latency_us,
            "screenings": [_result_to_dict(screening) for screening in self.screenings],
            "confirmation": None if self.confirmation is None else _result_to_dict(self.confirmation),
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Candidate:
        """The inverse of [`~Candidate.to_dict`].

        Raises:
            `ValueError`: If its name is not that of a folder, or its architecture is invalid.
        """
        architecture = MLPArchitecture(**saved["architecture"])
        results = [
            None if result is None else _result_from_dict(result, architecture)
            for result in (*saved["screenings"], saved["confirmation"])
        ]
        screenings = [result for result in results[:-1] if result is not None]
        name = check_name(STATE_NAME, saved["name"])
        return cls(name, saved["band"], architecture, saved["latency_us"], screenings, results[-1])


def _result_to_dict(result: EvaluationResult) -> dict[str, Any]:
    return {name: value for name, value in result.to_dict().items() if name != "architecture"}


def _result_from_dict(saved: dict[str, Any], architecture: MLPArchitecture) -> EvaluationResult:
    low, high = saved["confidence_interval"]
    score = Score(saved["num_successes"], saved["num_episodes"], saved["metrics"], saved["score"], (low, high))
    return EvaluationResult.from_score(score, architecture)


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Parameters:
        output_dir (`Path`): Folder of the search.
        target (`float`): Requested success rate, 0 to 1.
        candidates (`list[Candidate]`): Every network that was generated.
        limits ([`ChipLimits`], *optional*): What a chip allows, and the weights that networks were scored with.
    """

    output_dir: Path
    target: float
    candidates: list[Candidate]
    limits: ChipLimits = field(default_factory=ChipLimits)

    @property
    def finalists(self) -> list[Candidate]:
        """The confirmed candidates, fewest parameters first."""
        confirmed = [candidate for candidate in self.candidates if candidate.confirmation is not None]
        return sorted(confirmed, key=lambda candidate: (candidate.num_parameters, candidate.name))

    @property
    def winner(self) -> Candidate | None:
        """The finalist of fewest parameters whose lower confidence bound reaches the target, or `None`."""
        reaching = (c for c in self.finalists if measured(c.confirmation).confidence_interval[0] >= self.target)
        return next(reaching, None)

    @property
    def front(self) -> list[Candidate]:
        """Pareto front of success rate and parameter count, fewest parameters first."""
        return _pareto_front(self.finalists, lambda candidate: candidate.num_parameters)

    @property
    def latency_front(self) -> list[Candidate]:
        """Pareto front of success rate and latency, fastest first."""
        return _pareto_front(self.finalists, lambda candidate: measured(candidate.latency_us))

    def cost(self, candidate: Candidate) -> dict[str, int]:
        """Bytes and operations of a candidate on a chip, by name; empty if the search had no limits of a chip."""
        return self.limits.cost(candidate.architecture).to_dict() if self.limits.settings() else {}

    def network(self, candidate: Candidate) -> MLP:
        """Loads the network of a candidate."""
        return load_network(self.output_dir, candidate)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary: the winner and all finalists."""
        return {
            "target": self.target,
            "winner": None if self.winner is None else self.winner.name,
            "front": [candidate.name for candidate in self.front],
            "latency_front": [candidate.name for candidate in self.latency_front],
            "finalists": [{**candidate.to_dict(), **self.cost(candidate)} for candidate in self.finalists],
        }


def measured(value: T | None) -> T:
    """Returns a measured value.

    Raises:
        `ValueError`: If the search has not measured it yet.
    """
    if value is None:
        raise ValueError("`value` must have been measured, but the search has not reached this step yet.")
    return value


def _pareto_front(candidates: Sequence[Candidate], cost: Callable[[Candidate], float]) -> list[Candidate]:
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (cost(c), -measured(c.confirmation).score, c.name)):
        if not front or measured(candidate.confirmation).score > measured(front[-1].confirmation).score:
            front.append(candidate)
    return front


def load_network(output_dir: Path, candidate: Candidate) -> MLP:
    """Loads a candidate's network and its contract; unlike `MLP.from_pretrained`, without printing a line for each.

    Raises:
        `OSError`: If the file is missing, truncated or altered.
        `ValueError`: If its weights do not fit the candidate's architecture.
    """
    folder = output_dir / NETWORKS_NAME / candidate.name
    weights = read_weights(folder / SAFETENSORS_SINGLE_FILE, candidate.architecture.tensor_shapes)
    network = MLP.from_architecture(candidate.architecture, weights).eval()
    network.contract = read_contract(folder)
    return network


class SearchState:
    """Progress of a search: its file and its networks.

    Parameters:
        output_dir (`str` or `Path`): A new folder, or the folder of a search to resume.
        settings (`dict[str, Any]`): Settings that identify the search; JSON-ready.

    Raises:
        `ValueError`: If the folder holds other files, or a search with other settings.
    """

    def __init__(self, output_dir: str | Path, settings: dict[str, Any]):
        self.output_dir = Path(output_dir)
        self.settings = json.loads(json.dumps(settings))
        self.candidates: list[Candidate] = []
        self.bands_done: list[int] = []
        self.runs: list[dict[str, Any]] = []
        path = self.output_dir / STATE_NAME
        if path.exists():
            self._read(path)
        elif self.output_dir.exists() and any(self.output_dir.iterdir()):
            raise ValueError(
                f"`output_dir` must be a new folder or the folder of a search, but received {str(output_dir)!r}, "
                f"which holds other files and no {STATE_NAME}."
            )

    def _read(self, path: Path) -> None:
        saved = read_json_object(path)
        settings = saved.get("settings")
        if not isinstance(settings, dict):
            raise ValueError(f"{str(path)!r} must hold the `settings` of a search, but holds {shown(settings)}.")
        self._check_settings(path, settings)
        try:
            self.candidates = [Candidate.from_dict(candidate) for candidate in saved["candidates"]]
            self.bands_done, self.runs = saved["bands_done"], saved["runs"]
        except (AttributeError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{str(path)!r} must hold a search as this package writes it: {reason}.") from error

    def _check_settings(self, path: Path, saved: dict[str, Any]) -> None:
        """Raises `ValueError` unless the saved settings are those of this search."""
        lacking = sorted(self.settings.keys() - saved.keys())
        if lacking:
            raise ValueError(
                f"`output_dir` must be a new folder or a search of this version, but {str(path)!r} does not record "
                f"{', '.join(f'`{name}`' for name in lacking)}."
            )
        names = sorted({*self.settings, *saved})
        others = [name for name in names if self.settings.get(name) != saved.get(name)]
        if others:
            differences = ", ".join(f"{name} ({shown(saved.get(name))} there)" for name in others)
            raise ValueError(
                f"`output_dir` must be a new folder or a search with the same settings, but received "
                f"{str(self.output_dir)!r}, which differs in {differences}."
            )

    def save(self, result: SearchResult | None = None) -> None:
        """Writes the state, and the summary of `result` if given."""
        payload = {
            "settings": self.settings,
            "runs": self.runs,
            **({} if result is None else {"result": result.to_dict()}),
            "bands_done": self.bands_done,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
        }
        write_json(self.output_dir / STATE_NAME, payload)

    def add_band(self, band: int, candidates: Sequence[Candidate], networks: Sequence[MLP]) -> None:
        """Adds the networks of a band; saves their files before the state that lists them."""
        for candidate, network in zip(candidates, networks, strict=True):
            with replacing_folder(self.output_dir / NETWORKS_NAME / candidate.name) as folder:
                network.save_pretrained(folder)
        self.candidates += candidates
        self.bands_done.append(band)
        self.save()

    def networks(self, candidates: Sequence[Candidate]) -> list[MLP]:
        """Loads the networks of candidates."""
        return [load_network(self.output_dir, candidate) for candidate in candidates]
