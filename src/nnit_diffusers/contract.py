"""What a network means: its task, its inputs and outputs, what is folded into its weights, and where it comes from.

Names of fields follow the IO descriptors of Isaac Lab where it has one: `name`, `shape`, `dtype`, `units`,
`joint_names`, `scale`, `offset`, `clip`, `dt`, `decimation`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from .loading.limits import MAX_TASKS, check_size, shown
from .loading.local import read_json_object
from .records import Record


CONTRACT_KEY = "nnit_contract"
"""Key of a contract in the `config.json` of a saved network, and in exported files."""
CONTRACT_NAME = "contract.json"
"""File of a contract in the folder of a pipeline."""
_TASKS = "tasks"
_NETWORK_NAME = "config.json"
_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class IOTerm(Record):
    """Consecutive inputs or outputs that belong together.

    An output is clipped first, and then scaled: a controller computes `scale * clip(output) + offset`, in `units`.

    Parameters:
        name (`str`): What they measure or control.
        shape (`tuple[int, ...]`): Their shape, flattened row by row.
        units (`str`, *optional*): Unit of the numbers; for scaled outputs that of the scaled ones.
        description (`str`, *optional*): Further words.
        dtype (`str`, defaults to `"torch.float32"`): Type of the numbers.
        element_names (`tuple[str, ...]`, defaults to `()`): Name of every number, or none.
        joint_names (`tuple[str, ...]`, defaults to `()`): Joints of a robot that they belong to, in order.
        action_type (`str`, *optional*): Class of the controller that takes these outputs.
        clip (`tuple[tuple[float, float], ...]`, defaults to `()`):
            Bounds that every output has to be clipped to, `None` for no bound. It is empty if no output has one.
        scale, offset (`tuple[float, ...]`, default to `()`): What a controller makes of clipped outputs, one by one.
    """

    name: str
    shape: tuple[int, ...]
    units: str | None = None
    description: str | None = None
    dtype: str = "torch.float32"
    element_names: tuple[str, ...] = ()
    joint_names: tuple[str, ...] = ()
    action_type: str | None = None
    clip: tuple[tuple[float | None, float | None], ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    title: ClassVar[str] = "contract.term"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= len(self.shape) <= _MAX_DIMENSIONS:
            raise ValueError(f"`{self.title}.shape` must have 1 to {_MAX_DIMENSIONS} sizes: {shown(self.shape)}.")
        for size in self.shape:
            check_size(f"{self.title}.shape", size)
        check_size(f"size of {shown(self.name)}", self.size)
        for name in ("element_names", "clip", "scale", "offset"):
            values = getattr(self, name)
            if values and len(values) != self.size:
                raise ValueError(
                    f"`{name}` of {shown(self.name)} must have {self.size} entries or none, but has {len(values)}."
                )
        for low, high in self.clip:
            if low is not None and high is not None and low > high:
                raise ValueError(f"`clip` of {shown(self.name)} must be [low, high], but has {[low, high]}.")

    @property
    def size(self) -> int:
        """Number of inputs or outputs."""
        return math.prod(self.shape)

    @property
    def unit_words(self) -> str:
        """Unit of the numbers, with scale and offset where all have the same: `× 0.1 rad`; empty without a unit."""
        words = [self.units] if self.units else []
        if len(set(self.offset)) == 1 and self.offset[0]:
            words.insert(0, f"{self.offset[0]:+g}")
        if len(set(self.scale)) == 1:
            words.insert(0, f"× {self.scale[0]:g}")
        return " ".join(words)


@dataclass(frozen=True)
class EnvironmentRecord(Record):
    """The environment that a network acts in.

    Parameters:
        library (`str`): Library that has it, such as `"maniskill"`, `"gymnasium"` or `"metaworld"`.
        env_id (`str`): Its name there.
        library_version (`str`, *optional*): Version of the library that it was read with.
        env_kwargs (`Mapping[str, Any]`, defaults to `{}`): Its arguments, such as `robot_uids` and `obs_mode`.
        robot (`str`, *optional*): Name of the robot.
        control_mode (`str`, *optional*): Control mode of the robot.
        control_freq (`float`, *optional*): Actions a second, in Hz.
        dt (`float`, *optional*): Seconds from one action to the next.
        decimation (`int`, *optional*): Steps of the physics for every action.
        max_episode_steps (`int`, *optional*): Actions of the longest episode.
    """

    library: str
    env_id: str
    library_version: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    robot: str | None = None
    control_mode: str | None = None
    control_freq: float | None = None
    dt: float | None = None
    decimation: int | None = None
    max_episode_steps: int | None = None
    title: ClassVar[str] = "contract.environment"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("control_freq", "dt", "decimation", "max_episode_steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"`{self.title}.{name}` must be above 0, but received {shown(value)}.")
        if self.control_freq is not None and self.dt is not None and abs(self.control_freq * self.dt - 1) > 1e-3:
            raise ValueError(
                f"`{self.title}.dt` must be 1 / control_freq, but received {self.dt:g} s and {self.control_freq:g} Hz."
            )


@dataclass(frozen=True)
class FoldedStatistics(Record):
    """What is folded into the weights: a network takes raw inputs and returns raw outputs.

    Parameters:
        observation_mean, observation_std (`tuple[float, ...]`, default to `()`):
            Folded into the first layer. The network that was learned takes `(input - mean) / std`.
        output_mean, output_std (`tuple[float, ...]`, default to `()`):
            Folded into the last layer. What was learned is multiplied by `std`, and `mean` is added.
    """

    observation_mean: tuple[float, ...] = ()
    observation_std: tuple[float, ...] = ()
    output_mean: tuple[float, ...] = ()
    output_std: tuple[float, ...] = ()
    title: ClassVar[str] = "contract.folded"


@dataclass(frozen=True)
class ScoreRecord(Record):
    """The score of a network, where it was measured.

    Parameters:
        metric (`str`): Name of the metric, such as `"success_rate"`, `"accuracy"` or `"r2"`.
        value (`float`): The score.
        interval (`tuple[float, float]`): Its 95% confidence interval.
        num_episodes (`int`): Episodes, or samples of a data set.
        split (`str`): `"train"`, `"validation"` or `"test"`.
        seed (`int`, *optional*): Seed that chose the episodes.
        num_successes (`int`, *optional*): Successes, if the score is a share of them.
    """

    metric: str
    value: float
    interval: tuple[float, float]
    num_episodes: int
    split: str
    seed: int | None = None
    num_successes: int | None = None
    title: ClassVar[str] = "contract.score"


@dataclass(frozen=True)
class ProvenanceRecord(Record):
    """Where a network comes from.

    Parameters:
        pipeline (`str`, *optional*): Repository or folder of the pipeline that generated it.
        revision (`str`, *optional*): Commit of the repository.
        weights_sha256, sampler_sha256 (`str`, *optional*): Fingerprints of the pipeline.
        source (`str`, *optional*): What gave the weights: `"nnit"`, `"ghn"` or `"nested"`.
        seed (`int`, *optional*): Seed of the generator.
        index (`int`, *optional*): Index of the network among those that the call generated.
        package_version (`str`, *optional*): Version of this package.
    """

    pipeline: str | None = None
    revision: str | None = None
    weights_sha256: str | None = None
    sampler_sha256: str | None = None
    source: str | None = None
    seed: int | None = None
    index: int | None = None
    package_version: str | None = None
    title: ClassVar[str] = "contract.provenance"


@dataclass(frozen=True)
class NetworkContract(Record):
    """What a network means. It lies in the `config.json` of a saved network, and in every export of one.

    ```python
    network = MLP.from_pretrained("networks/network-0")
    for term in network.contract.observations:
        print(term.name, term.shape, term.units)
    action = network.contract.clip(network(observation))
    ```

    Parameters:
        task (`str`, *optional*): Name of the task.
        observations (`tuple[IOTerm, ...]`, defaults to `()`): The inputs in their order; empty if not described.
        actions (`tuple[IOTerm, ...]`, defaults to `()`): The outputs in their order; empty if not described.
        is_discrete (`bool`, defaults to `False`):
            Whether the outputs are scores of choices or classes, of which the largest is taken.
        first_choice (`int`, defaults to 0): The choice of the first output; the others follow it.
        environment ([`EnvironmentRecord`], *optional*): Where a policy acts; `None` for tables and images.
        folded ([`FoldedStatistics`], *optional*): Statistics that are folded into the weights.
        score ([`ScoreRecord`], *optional*): The score of this network, where it was measured.
        provenance ([`ProvenanceRecord`], *optional*): Where the network comes from.
        task_spec (`Mapping[str, Any]`, defaults to `{}`):
            What a task of one's own table or environment is made from again, as in `task.json`.
        version (`int`, defaults to 1): Version of this format; keys of later ones are kept in `extras`.

    Raises:
        `ValueError`: If a field has another type, is too long, is not finite, or does not fit the others.
    """

    task: str | None = None
    observations: tuple[IOTerm, ...] = ()
    actions: tuple[IOTerm, ...] = ()
    is_discrete: bool = False
    first_choice: int = 0
    environment: EnvironmentRecord | None = None
    folded: FoldedStatistics | None = None
    score: ScoreRecord | None = None
    provenance: ProvenanceRecord | None = None
    task_spec: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    title: ClassVar[str] = "contract"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.is_discrete and self.action_bounds is not None:
            raise ValueError("`contract.actions` must have no `clip` if `is_discrete`, but has some.")

    @property
    def action_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Lowest and highest value of every output, infinite where it has none; `None` if no output is clipped."""
        if not any(term.clip for term in self.actions):
            return None
        pairs = [pair for term in self.actions for pair in (term.clip or ((None, None),) * term.size)]
        lows = tuple(-math.inf if low is None else low for low, _ in pairs)
        return lows, tuple(math.inf if high is None else high for _, high in pairs)

    def clip(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs `[..., O]`, clipped to the bounds of the action space where it has some."""
        if self.action_bounds is None:
            return outputs
        low_O, high_O = (torch.tensor(bound).to(outputs) for bound in self.action_bounds)
        return outputs.clamp(low_O, high_O)

    def check_sizes(self, in_features: int, out_features: int) -> None:
        """Raises `ValueError` unless the contract can be that of a network of these sizes."""
        folded = self.folded or FoldedStatistics()
        for name, size in (("observations", in_features), ("actions", out_features)):
            terms = getattr(self, name)
            described = sum(term.size for term in terms)
            if terms and described != size:
                raise ValueError(f"`contract.{name}` must describe {size} numbers, but describes {described}.")
        for name in ("observation_mean", "observation_std", "output_mean", "output_std"):
            size = in_features if name.startswith("observation") else out_features
            values = getattr(folded, name)
            if values and len(values) != size:
                raise ValueError(f"`contract.folded.{name}` must have {size} numbers, but has {len(values)}.")

    def differences(self, other: NetworkContract) -> list[str]:
        """What differs for a network that moves from one contract to the other, in words; what either lacks is equal.

        Compared are the environment, the control mode and rate, the observations and the actions.
        """
        found = []
        mine, theirs = self.environment, other.environment
        if mine is not None and theirs is not None:
            for name in ("env_id", "control_mode", "control_freq"):
                pair = getattr(mine, name), getattr(theirs, name)
                if None not in pair and pair[0] != pair[1]:
                    found.append(f"{name} {pair[0]!r} and {pair[1]!r}")
        for name in ("observations", "actions"):
            own, given = ([(term.name, term.size) for term in getattr(each, name)] for each in (self, other))
            if own and given and own != given:
                first = next((pair for pair in zip(own, given) if pair[0] != pair[1]), (len(own), len(given)))
                found.append(f"{name} {shown(first[0])} and {shown(first[1])}")
        if self.actions and other.actions:
            kinds = [_range_of(each) for each in (self, other)]
            if kinds[0] != kinds[1]:
                found.append(f"action range {shown(kinds[0])} and {shown(kinds[1])}")
        return found


def contracts_to(contracts: Mapping[str | None, NetworkContract]) -> dict[str, Any]:
    """JSON-ready form of the contracts of a pipeline: that of its one task, or those of several by their names."""
    if None in contracts:
        return contracts[None].to_dict()
    return {_TASKS: {str(name): contract.to_dict() for name, contract in contracts.items()}}


def contracts_from(content: Any) -> dict[str | None, NetworkContract]:
    """Inverse of [`contracts_to`].

    Raises:
        `ValueError`: If a contract is malformed, or there are more than `loading.limits` allows.
    """
    if not isinstance(content, dict) or set(content) != {_TASKS}:
        return {None: NetworkContract.from_dict(content)}
    named = content[_TASKS]
    if not isinstance(named, dict) or not 1 <= len(named) <= MAX_TASKS:
        raise ValueError(f"`{_TASKS}` must be an object of 1 to {MAX_TASKS} contracts, but is {shown(named)}.")
    return {name: NetworkContract.from_dict(contract) for name, contract in named.items()}


def read_contract(folder: str | Path) -> NetworkContract | None:
    """The contract in the folder of a pipeline of one task or of a saved network, if it has one.

    Raises:
        `ValueError`: If it is damaged.
    """
    for name, key in ((CONTRACT_NAME, None), (_NETWORK_NAME, CONTRACT_KEY)):
        path = Path(folder, name)
        if path.is_file():
            content: Any = read_json_object(path)
            content = content if key is None else content.get(key)
            if content is not None:
                try:
                    return contracts_from(content).get(None)
                except ValueError as error:
                    raise ValueError(f"{str(path)!r} must hold the contract of a network: {error}") from error
    return None


def _range_of(contract: NetworkContract) -> Any:
    """What an output may be: a choice, or numbers between bounds; uniform bounds are one pair."""
    if contract.is_discrete:
        return "choices"
    bounds = contract.action_bounds
    if bounds is None:
        return "unbounded"
    pairs = list(zip(*bounds))
    return list(pairs[0]) if len(set(pairs)) == 1 else [list(pair) for pair in pairs]
