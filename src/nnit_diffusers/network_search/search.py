"""The smallest network that does the job: generated in many sizes, screened by successive halving, then confirmed."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers.utils import logging

from ..architecture import MLPArchitecture
from ..evaluation import EvaluationResult, evaluate, wilson_interval
from ..pipelines import NNiTPipeline
from ..pipelines.fingerprint import fingerprint
from ..tasks import Task
from ..utils import provenance, replacing_folder
from .latency import measure_latencies
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
    num_bands: int | None = None,
    networks_per_band: int | None = None,
    screen_episodes: Sequence[int] | None = None,
    reduction: int | None = None,
    num_confirm_episodes: int | None = None,
    num_inference_steps: int = 20,
    seed: int = 0,
    num_workers: int | None = None,
    progress_bar: bool = True,
) -> SearchResult:
    """Searches for the smallest network that reaches a success rate on a task.

    1. *Generate*: the range of parameter counts, from the smallest network to the budget, is cut into bands of equal
       ratio, and the model chooses architectures and weights in each. Every network's latency is measured; those over
       the latency budget are out.
    2. *Screen*: in rounds of more and more validation episodes, other ones each time, the best of each band go on.
       Bands do not compete: a small network is not thrown out for a larger one that is better.
    3. *Confirm*: those that are left are scored on test episodes, which have chosen nothing. The winner is the one of
       fewest parameters whose **lower bound** of the 95% Wilson interval reaches `target`: a rate that only happens to
       be as high does not count. With k finalists, the chance that a winner's true rate is below the target is at
       most 2.5% times k.

    How many bands, networks and episodes: as the task's [`SearchPlan`] has it, where no argument says otherwise. It is
    the success rate alone that is screened ([`~Task.for_screening`]); all else that the task counts is confirmed.

    All that is computed goes to `output_dir` at once. The same call goes on where a killed one stopped, with the same
    result as if it had not been: only latencies are those of the moment they were measured. A finished search, called
    with another `target`, answers without computing anything.

    Parameters:
        pipe ([`NNiTPipeline`]): Generates the networks.
        task ([`Task`]): Scores them; its `validation` split screens, its `test` split confirms.
        output_dir (`str` or `Path`):
            Gets `search.json`, `networks/` and, if there is one, `winner/`. A new folder, or a search to go on with.
        target (`float`, defaults to 0.95): Success rate to be reached, between 0 and 1.
        max_parameters (`int`, *optional*): Most parameters; the widest and deepest the model chooses by default.
        max_latency_us (`float`, *optional*): Most microseconds of a call; see [`measure_latencies`].
        num_bands (`int`, *optional*): Bands of parameter counts.
        networks_per_band (`int`, *optional*): Networks generated in each.
        screen_episodes (`Sequence[int]`, *optional*): Validation episodes of each round.
        reduction (`int`, *optional*): Of so many networks of a band, one goes on to the next round.
        num_confirm_episodes (`int`, *optional*): Test episodes of each finalist.
        num_inference_steps (`int`, defaults to 20): Denoising steps.
        seed (`int`, defaults to 0): Decides networks and episodes.
        num_workers (`int`, *optional*): Processes to run episodes in, for tasks that use any.
        progress_bar (`bool`, defaults to `True`): Show progress bars.

    Returns:
        [`SearchResult`]: Finalists, fronts and winner.

    Raises:
        `ValueError`: If an argument is out of its range, no network meets a budget, or `output_dir` holds something
            else.
    """
    plan = {
        "num_bands": num_bands,
        "networks_per_band": networks_per_band,
        "screen_episodes": screen_episodes,
        "reduction": reduction,
        "num_confirm_episodes": num_confirm_episodes,
    }
    # What makes it another search: not what is asked of the result, nor what only sets the speed.
    settings: dict[str, Any] = {
        "task": task.name,
        "max_parameters": max_parameters,
        "max_latency_us": max_latency_us,
        **asdict(task.search_plan),
        **{name: value for name, value in plan.items() if value is not None},
        "num_inference_steps": num_inference_steps,
        "seed": seed,
    }
    _check(pipe, task, target, settings)
    bands = parameter_bands(pipe, settings["num_bands"], max_parameters)
    state = SearchState(output_dir, {**settings, "weights_sha256": fingerprint(pipe)})
    state.runs.append(provenance())
    score = partial(evaluate, num_workers=num_workers, progress_bar=False)
    _generate(pipe, state, bands, progress_bar)
    _measure(state)
    for screening in range(len(settings["screen_episodes"])):
        _screen(partial(score, task=task.for_screening()), state, screening, progress_bar)
    _confirm(partial(score, task=task), state, progress_bar)
    return _finish(state, target)


def _generate(pipe: NNiTPipeline, state: SearchState, bands: Sequence[tuple[int, int]], progress_bar: bool) -> None:
    missing = [band for band in range(len(bands)) if band not in state.bands_done]
    for band in _progress(missing, "Generating", progress_bar):
        least, most = bands[band]
        output: Any = pipe(
            min_parameters=least,
            max_parameters=most,
            num_networks=state.settings["networks_per_band"],
            num_inference_steps=state.settings["num_inference_steps"],
            generator=torch.Generator().manual_seed(_derived_seed(state.settings["seed"], band)),
        )
        networks = [network.cpu() for network in output.networks]
        candidates = [
            Candidate(f"{band:02}-{index:02}", band, network.architecture) for index, network in enumerate(networks)
        ]
        state.add_band(band, candidates, networks)


def _measure(state: SearchState) -> None:
    missing = [candidate for candidate in state.candidates if candidate.latency_us is None]
    for candidate, latency_us in zip(missing, measure_latencies(state.networks(missing))):
        candidate.latency_us = latency_us
    state.save()


def _screen(
    score: Callable[..., list[EvaluationResult]], state: SearchState, screening: int, progress_bar: bool
) -> None:
    episodes, seed = state.settings["screen_episodes"], state.settings["seed"]
    pools = [_survivors(state, band, screening) for band in sorted(state.bands_done)]
    # A band is scored as a whole or not at all.
    missing = [pool for pool in pools if pool and len(pool[0].screenings) == screening]
    for pool in _progress(missing, f"Screening {screening + 1}/{len(episodes)}", progress_bar):
        networks = state.networks(pool)
        results = score(networks, split="validation", num_episodes=episodes[screening], seed=seed + screening)
        for candidate, result in zip(pool, results, strict=True):
            candidate.screenings.append(result)
        state.save()


def _confirm(score: Callable[..., list[EvaluationResult]], state: SearchState, progress_bar: bool) -> None:
    num_screenings, seed = len(state.settings["screen_episodes"]), state.settings["seed"]
    finalists = [c for band in sorted(state.bands_done) for c in _survivors(state, band, num_screenings)]
    missing = [candidate for candidate in finalists if candidate.confirmation is None]
    for candidate in _progress(missing, "Confirming", progress_bar):
        (candidate.confirmation,) = score(
            state.networks([candidate]),
            split="test",
            num_episodes=state.settings["num_confirm_episodes"],
            seed=seed + num_screenings,
        )
        state.save()


def parameter_bands(pipe: NNiTPipeline, num_bands: int, max_parameters: int | None = None) -> list[tuple[int, int]]:
    """Fewest and most parameters, both inclusive, of bands that together hold all architectures the model may choose.

    Bands of equal ratio; one in which no architecture lies is left out.

    Raises:
        `ValueError`: If no architecture has `max_parameters` or fewer.
    """
    (space,) = pipe.prepare_spaces(None, None, max_parameters)
    smallest, largest = (
        MLPArchitecture(space.in_features, hidden_sizes, space.out_features).num_parameters
        for hidden_sizes in ((space.min_width,) * space.min_depth, (space.max_width,) * space.max_depth)
    )
    edges = np.geomspace(smallest, min(largest, max_parameters or largest), num_bands + 1).round().astype(int).tolist()
    bands = [(edges[i] + (i > 0), edges[i + 1]) for i in range(num_bands)]
    return [band for band in bands if _holds_an_architecture(pipe, *band)]


def _holds_an_architecture(pipe: NNiTPipeline, least: int, most: int) -> bool:
    try:
        pipe.prepare_spaces(None, least, most)
    except ValueError:
        return False
    return True


def _survivors(state: SearchState, band: int, screening: int) -> list[Candidate]:
    """Candidates of a band that take part in a round of the screening: for every earlier one, the best of it."""
    limit, reduction = state.settings["max_latency_us"], state.settings["reduction"]
    pool = [c for c in state.candidates if c.band == band and (limit is None or measured(c.latency_us) <= limit)]
    for earlier in range(screening):
        pool.sort(key=lambda c: (-c.screenings[earlier].score, c.num_parameters, c.name))
        pool = pool[: math.ceil(len(pool) / reduction)]
    return pool


def _finish(state: SearchState, target: float) -> SearchResult:
    result = SearchResult(state.output_dir, target, state.candidates)
    if not result.finalists:
        fastest = min(measured(candidate.latency_us) for candidate in state.candidates)
        raise ValueError(
            f"`max_latency_us` must be {fastest:.1f} or more, the latency of the fastest network generated, but "
            f"received {state.settings['max_latency_us']}."
        )
    winner = state.output_dir / WINNER_NAME
    if result.winner is None:
        shutil.rmtree(winner, ignore_errors=True)
    else:
        with replacing_folder(winner) as folder:
            result.network(result.winner).save_pretrained(folder)
    state.save(result)
    return result


def _check(pipe: NNiTPipeline, task: Task, target: float, settings: Mapping[str, Any]) -> None:
    """Raises `ValueError` on what no search can be made with."""
    config = pipe.tokenizer.config
    if (config.in_features, config.out_features) != (task.in_features, task.out_features):
        raise ValueError(
            f"`task` must have {config.in_features} inputs and {config.out_features} outputs, as the networks of the "
            f"pipeline, but received {task.name!r} with {task.in_features} and {task.out_features}."
        )
    if not 0 < target < 1:
        raise ValueError(f"`target` must lie between 0 and 1, both exclusive, but received {target}.")
    counts = {name: settings[name] for name in ("num_bands", "networks_per_band", "reduction")}
    counts |= {f"screen_episodes[{index}]": count for index, count in enumerate(settings["screen_episodes"])}
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be 1 or more, but received {count}.")
    num_confirm_episodes = settings["num_confirm_episodes"]
    needed = episodes_needed(target)
    if num_confirm_episodes is not None and num_confirm_episodes < needed:
        raise ValueError(
            f"`num_confirm_episodes` must be {needed} or more, for fewer cannot confirm a success rate of {target} "
            f"even if all succeed, but received {num_confirm_episodes}."
        )


def episodes_needed(target: float) -> int:
    """Fewest episodes that can confirm a success rate: that many successes in a row have it as their lower bound."""
    needed = 1
    while wilson_interval(needed, needed)[0] < target:
        needed += 1
    return needed


def _derived_seed(seed: int, band: int) -> int:
    """Unrelated seeds for the bands, whatever the seed is."""
    return int.from_bytes(hashlib.sha256(f"search:{seed}:{band}".encode()).digest()[:7], "big")


def _progress(items: Sequence[T], description: str, progress_bar: bool) -> Iterable[T]:
    return logging.tqdm(items, desc=description, disable=not (progress_bar and items))
