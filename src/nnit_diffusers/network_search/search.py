"""Search for the smallest network: generate many sizes, screen by successive halving, confirm the best."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers.utils import logging

from ..architecture import MLPArchitecture
from ..contract import NetworkContract, ScoreRecord
from ..evaluation import EvaluationResult, evaluate, wilson_interval
from ..executors import NumWorkers
from ..pipelines import NNiTPipeline
from ..pipelines.fingerprint import fingerprints
from ..provenance import provenance
from ..tasks import Task
from ..tasks.contracts import contract_of
from ..writing import replacing_folder
from .candidates import SourceName, check_source, generate_candidates
from .chip import ChipLimits
from .latency import measure_latencies
from .plan import SearchPlan
from .state import WINNER_NAME, Candidate, SearchResult, SearchState, measured


T = TypeVar("T")


def search(
    pipe: NNiTPipeline,
    task: Task,
    output_dir: str | Path,
    *,
    target: float = 0.95,
    max_parameters: int | None = None,
    max_latency_us: float | None = None,
    max_flash: int | None = None,
    max_macs: int | None = None,
    quantize: str | None = None,
    num_bands: int | None = None,
    networks_per_band: int | None = None,
    screen_episodes: Sequence[int] | None = None,
    reduction: int | None = None,
    num_confirm_episodes: int | None = None,
    num_inference_steps: int | None = None,
    source: SourceName = "nnit",
    seed: int = 0,
    num_workers: NumWorkers = None,
    progress_bar: bool = True,
) -> SearchResult:
    """Searches for the smallest network that reaches a score on a task, such as a success rate or R².

    1. *Generate*: the range of parameter counts, from the smallest network to the budget, is cut into bands of equal
       ratio. The model chooses architectures and weights in each band. Every network's latency is measured, and
       networks over a budget of latency, flash or multiply-accumulates are dropped.
    2. *Screen*: each round scores the remaining networks on more validation episodes, different ones each time, and
       keeps the best of each band. Bands do not compete, so a better large network never replaces a small one.
    3. *Confirm*: the finalists are scored on test episodes, which no choice has used. The winner is the finalist of
       fewest parameters whose **lower bound** of the 95% interval reaches `target`. With k finalists, the
       probability that a winner's true rate is below the target is at most 2.5% times k.

    The defaults of the optional arguments come from [`SearchPlan`]. Screening measures only the success
    rate ([`~Task.for_screening`]); confirmation measures all metrics of the task.

    Results are saved to `output_dir` immediately. The same call resumes an interrupted search and has the same result;
    only latencies depend on when they were measured. A finished search with another `target` computes nothing new.

    Parameters:
        pipe ([`NNiTPipeline`]): Generates the networks.
        task ([`Task`]): Scores the networks; `validation` split for screening, `test` split for confirmation.
        output_dir (`str` or `Path`):
            Folder for `search.json`, `networks/` and the network of the winner, `winner/`. A new folder, or one of a
            search to resume.
        target (`float`, defaults to 0.95): Score to reach, between 0 and 1.
        max_parameters (`int`, *optional*): Maximum parameter count; by default that of the widest and deepest network
            that the model chooses.
        max_latency_us (`float`, *optional*): Maximum latency in microseconds; see [`measure_latencies`].
        max_flash (`int`, *optional*): Maximum bytes of weights in C code; see [`footprint`].
        max_macs (`int`, *optional*): Maximum multiply-accumulates of a call.
        quantize (`str`, *optional*): `"int8"`: networks are scored with 8-bit weights, as exported; see [`quantize`].
        num_bands (`int`, *optional*): Bands of parameter counts.
        networks_per_band (`int`, *optional*): Networks generated in each band.
        screen_episodes (`Sequence[int]`, *optional*): Validation episodes in each screening round.
        reduction (`int`, *optional*): A screening round keeps one network in `reduction` of each band.
        num_confirm_episodes (`int`, *optional*): Test episodes of each finalist.
        num_inference_steps (`int`, *optional*): Denoising steps; those of the pipeline by default.
        source (`str`, defaults to `"nnit"`):
            Where the weights come from: `"nnit"`, or the pipeline's `"ghn"` or `"nested"`, for the same architectures.
        seed (`int`, defaults to 0): Determines networks and episodes.
        num_workers (`int` or `Executor`, *optional*):
            Processes that run episodes, or a `concurrent.futures.Executor`; see [`evaluate`]. Ignored by tasks without
            a simulator.
        progress_bar (`bool`, defaults to `True`): Show progress bars.

    Returns:
        [`SearchResult`]: Finalists, Pareto fronts and winner.

    Raises:
        `ValueError`: If an argument is out of range, the pipeline lacks the source, no network meets a budget, or
            `output_dir` holds other files.
    """
    # settings: arguments override the plan for the task
    plan = {
        "num_bands": num_bands,
        "networks_per_band": networks_per_band,
        "screen_episodes": screen_episodes,
        "reduction": reduction,
        "num_confirm_episodes": num_confirm_episodes,
        "num_inference_steps": num_inference_steps,
    }
    settings = _settings(pipe, task, plan, ChipLimits(max_flash, max_macs, quantize))
    settings |= {"max_parameters": max_parameters, "max_latency_us": max_latency_us, "source": source, "seed": seed}

    # new state, or that of an interrupted search
    _check(pipe, task, target, settings)
    bands = _bands(pipe, settings)
    state = SearchState(output_dir, {**settings, **fingerprints(pipe)})
    state.runs.append(provenance())

    # generate, screen, confirm
    score = partial(evaluate, num_workers=num_workers, progress_bar=False)
    _generate(pipe, task, state, bands, progress_bar)
    _measure(state)
    for screening in range(len(settings["screen_episodes"])):
        _screen(partial(score, task=task.for_screening()), state, screening, progress_bar)
    _confirm(partial(score, task=task), state, progress_bar)
    return _finish(state, target, task.metric.name)


def _settings(pipe: NNiTPipeline, task: Task, plan: Mapping[str, Any], limits: ChipLimits) -> dict[str, Any]:
    """Settings that identify a search. They do not include `target`, nor arguments that only affect speed."""
    _check_sizes(pipe, task)
    of_task = asdict(SearchPlan.for_task(task))
    if task.sample_name == "sample":
        # a small table has fewer samples than the plan
        most = task.num_evaluation_samples("validation")
        of_task["screen_episodes"] = tuple(min(count, most) for count in of_task["screen_episodes"])
    return {
        "task": task.name,
        **limits.settings(),
        "num_inference_steps": pipe.config.default_num_inference_steps,
        **of_task,
        **{name: value for name, value in plan.items() if value is not None},
    }


def _bands(pipe: NNiTPipeline, settings: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Bands of parameter counts, of networks that can stay within the limits of a chip.

    Raises:
        `ValueError`: If the smallest network exceeds a limit, or no network has `max_parameters` or fewer.
    """
    limits = ChipLimits.of_settings(settings)
    limits.check(_extremes(pipe)[0])
    return parameter_bands(pipe, settings["num_bands"], limits.max_parameters(settings["max_parameters"]))


def _generate(
    pipe: NNiTPipeline, task: Task, state: SearchState, bands: Sequence[tuple[int, int]], progress_bar: bool
) -> None:
    missing = [band for band in range(len(bands)) if band not in state.bands_done]
    contract = _contract(pipe, task) if missing else None
    for band in _progress(missing, "Generating", progress_bar):
        least, most = bands[band]
        seed = _derived_seed(state.settings["seed"], band)
        networks = generate_candidates(
            pipe,
            least,
            most,
            state.settings["networks_per_band"],
            state.settings["source"],
            state.settings["num_inference_steps"],
            torch.Generator().manual_seed(seed),
        )
        made_by = {name: state.settings[name] for name in ("weights_sha256", "sampler_sha256", "source")}
        for index, network in enumerate(networks):
            network.contract = pipe.network_contract(contract, **made_by, seed=seed, index=index)
        candidates = [
            Candidate(f"{band:02}-{index:02}", band, network.architecture) for index, network in enumerate(networks)
        ]
        state.add_band(band, candidates, networks)


def _contract(pipe: NNiTPipeline, task: Task) -> NetworkContract:
    """What the networks are for: as the pipeline has it, if it was made for this task."""
    if pipe.contract is not None and pipe.contract.task == task.name:
        return pipe.contract
    return contract_of(task)


def _measure(state: SearchState) -> None:
    missing = [candidate for candidate in state.candidates if candidate.latency_us is None]
    for candidate, latency_us in zip(missing, measure_latencies(state.networks(missing))):
        candidate.latency_us = latency_us
    state.save()


def _screen(
    score: Callable[..., list[EvaluationResult]], state: SearchState, screening: int, progress_bar: bool
) -> None:
    episodes, seed = state.settings["screen_episodes"], state.settings["seed"]
    limits = ChipLimits.of_settings(state.settings)
    pools = [_survivors(state, band, screening) for band in sorted(state.bands_done)]
    # The networks of a band are scored and saved together, so the first one shows whether the band is done.
    missing = [pool for pool in pools if pool and len(pool[0].screenings) == screening]
    for pool in _progress(missing, f"Screening {screening + 1}/{len(episodes)}", progress_bar):
        networks = limits.exported(state.networks(pool))
        results = score(networks, split="validation", num_episodes=episodes[screening], seed=seed + screening)
        for candidate, result in zip(pool, results, strict=True):
            candidate.screenings.append(result)
        state.save()


def _confirm(score: Callable[..., list[EvaluationResult]], state: SearchState, progress_bar: bool) -> None:
    num_screenings, seed = len(state.settings["screen_episodes"]), state.settings["seed"]
    limits = ChipLimits.of_settings(state.settings)
    finalists = [c for band in sorted(state.bands_done) for c in _survivors(state, band, num_screenings)]
    missing = [candidate for candidate in finalists if candidate.confirmation is None]
    for candidate in _progress(missing, "Confirming", progress_bar):
        (candidate.confirmation,) = score(
            limits.exported(state.networks([candidate])),
            split="test",
            num_episodes=state.settings["num_confirm_episodes"],
            seed=seed + num_screenings,
        )
        state.save()


def parameter_bands(pipe: NNiTPipeline, num_bands: int, max_parameters: int | None = None) -> list[tuple[int, int]]:
    """Minimum and maximum parameter counts, inclusive, of bands that cover all architectures the model may choose.

    The bands have equal ratios of maximum to minimum. Bands without an architecture are left out.

    Raises:
        `ValueError`: If no architecture has `max_parameters` or fewer.
    """
    pipe.prepare_spaces(None, None, max_parameters)
    smallest, largest = (architecture.num_parameters for architecture in _extremes(pipe))
    edges = np.geomspace(smallest, min(largest, max_parameters or largest), num_bands + 1).round().astype(int).tolist()
    bands = [(edges[i] + (i > 0), edges[i + 1]) for i in range(num_bands)]
    return [band for band in bands if _holds_an_architecture(pipe, *band)]


def _extremes(pipe: NNiTPipeline) -> tuple[MLPArchitecture, MLPArchitecture]:
    """The smallest and the largest network that the model may choose."""
    config, grid = pipe.tokenizer.config, pipe.grid
    smallest, largest = (
        MLPArchitecture(
            config.in_features, (grid[f"{end}_width"],) * grid[f"{end}_depth"], config.out_features, config.activation
        )
        for end in ("min", "max")
    )
    return smallest, largest


def _holds_an_architecture(pipe: NNiTPipeline, least: int, most: int) -> bool:
    try:
        pipe.prepare_spaces(None, least, most)
    except ValueError:
        return False
    return True


def _survivors(state: SearchState, band: int, screening: int) -> list[Candidate]:
    """Candidates of a band in a screening round: within all limits, and among the best of earlier rounds."""
    limit, reduction = state.settings["max_latency_us"], state.settings["reduction"]
    limits = ChipLimits.of_settings(state.settings)
    pool = [
        candidate
        for candidate in state.candidates
        if candidate.band == band
        and (limit is None or measured(candidate.latency_us) <= limit)
        and limits.allow(candidate.architecture)
    ]
    for earlier in range(screening):
        pool.sort(key=lambda c: (-c.screenings[earlier].score, c.num_parameters, c.name))
        pool = pool[: math.ceil(len(pool) / reduction)]
    return pool


def _finish(state: SearchState, target: float, metric: str) -> SearchResult:
    # finalists
    limits = ChipLimits.of_settings(state.settings)
    result = SearchResult(state.output_dir, target, state.candidates, limits)
    if not result.finalists:
        raise _nothing_left(state, limits)

    # save the winner, or remove the one of an earlier target
    winner = state.output_dir / WINNER_NAME
    if result.winner is None:
        shutil.rmtree(winner, ignore_errors=True)
    else:
        network = result.network(result.winner)
        # a score with 8-bit weights is not that of the floats that are saved
        if network.contract is not None and limits.quantize is None:
            network.contract = replace(network.contract, score=_score(state, result.winner, metric))
        with replacing_folder(winner) as folder:
            network.save_pretrained(folder)
    state.save(result)
    return result


def _nothing_left(state: SearchState, limits: ChipLimits) -> ValueError:
    """The error if no network that was generated stays within all limits."""
    allowed = [candidate for candidate in state.candidates if limits.allow(candidate.architecture)]
    if not allowed:
        return ValueError(
            f"`max_flash` and `max_macs` must allow a network that was generated, but received {limits.max_flash} and "
            f"{limits.max_macs}: generate more with `networks_per_band`."
        )
    fastest = min(measured(candidate.latency_us) for candidate in allowed)
    return ValueError(
        f"`max_latency_us` must be {fastest:.1f} or more, the latency of the fastest network generated, but received "
        f"{state.settings['max_latency_us']}."
    )


def _score(state: SearchState, winner: Candidate, metric: str) -> ScoreRecord:
    """The confirmed score of the winner, as its contract has it."""
    result = measured(winner.confirmation)
    return ScoreRecord(
        metric=metric,
        value=result.score,
        interval=result.confidence_interval,
        num_episodes=result.num_episodes,
        num_successes=result.num_successes,
        split="test",
        seed=state.settings["seed"] + len(state.settings["screen_episodes"]),
    )


def _check_sizes(pipe: NNiTPipeline, task: Task) -> None:
    """Raises `ValueError` if networks of the pipeline have other sizes than those of the task."""
    config = pipe.tokenizer.config
    if (config.in_features, config.out_features) != (task.in_features, task.out_features):
        raise ValueError(
            f"`task` must have {config.in_features} inputs and {config.out_features} outputs, as the networks of the "
            f"pipeline, but received {task.name!r} with {task.in_features} and {task.out_features}."
        )


def _check(pipe: NNiTPipeline, task: Task, target: float, settings: Mapping[str, Any]) -> None:
    """Raises `ValueError` if the task does not fit the pipeline, or a setting is out of range."""
    check_source(pipe, settings["source"])
    # ranges
    if not 0 < target < 1:
        raise ValueError(f"`target` must lie between 0 and 1, both exclusive, but received {target}.")
    counts = {name: settings[name] for name in ("num_bands", "networks_per_band", "reduction")}
    counts |= {f"screen_episodes[{index}]": count for index, count in enumerate(settings["screen_episodes"])}
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be 1 or more, but received {count}.")

    # enough episodes to confirm the target
    num_confirm_episodes = settings["num_confirm_episodes"]
    needed = episodes_needed(target)
    if task.metric.is_share and num_confirm_episodes is not None and num_confirm_episodes < needed:
        raise ValueError(
            f"`num_confirm_episodes` must be {needed} or more, because fewer cannot confirm a success rate of "
            f"{target} even if all succeed, but received {num_confirm_episodes}."
        )


def episodes_needed(target: float) -> int:
    """Minimum number of episodes that can confirm a success rate: if all succeed, the lower bound reaches it."""
    needed = 1
    while wilson_interval(needed, needed)[0] < target:
        needed += 1
    return needed


def _derived_seed(seed: int, band: int) -> int:
    """A seed for each band, unrelated to those of other bands and other seeds."""
    return int.from_bytes(hashlib.sha256(f"search:{seed}:{band}".encode()).digest()[:7], "big")


def _progress(items: Sequence[T], description: str, progress_bar: bool) -> Iterable[T]:
    return logging.tqdm(items, desc=description, disable=not (progress_bar and items))
