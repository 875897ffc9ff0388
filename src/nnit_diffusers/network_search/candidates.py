"""Candidates of a search: networks of a range of parameter counts, from one of the models of a pipeline."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch

from ..networks import MLP
from ..pipelines import NNiTPipeline
from ..pipelines.generators import generator_per_network


SourceName = Literal["nnit", "ghn", "nested"]


def check_source(pipe: NNiTPipeline, source: str) -> None:
    """Raises `ValueError` if there is no such source of networks, or the pipeline lacks it."""
    available = [name for name in get_args(SourceName) if name == "nnit" or getattr(pipe, name) is not None]
    if source not in available:
        raise ValueError(f"`source` must be one of {available}, which the pipeline has, but received {source!r}.")


@torch.no_grad()
def generate_candidates(
    pipe: NNiTPipeline,
    min_parameters: int,
    max_parameters: int,
    num_networks: int,
    source: str,
    num_inference_steps: int,
    generator: torch.Generator,
) -> list[MLP]:
    """Networks whose architectures the model chooses, with weights of a source.

    Parameters:
        pipe ([`NNiTPipeline`]): The pipeline.
        min_parameters, max_parameters (`int`): Range of parameter counts, inclusive.
        num_networks (`int`): Number of networks.
        source (`str`): See [`check_source`].
        num_inference_steps (`int`): Denoising steps, of architectures and, with `"nnit"`, of weights.
        generator (`torch.Generator`): Source of randomness, on the CPU.
    """
    budget: dict[str, Any] = {"min_parameters": min_parameters, "max_parameters": max_parameters}
    if source == "nnit":
        output: Any = pipe(
            num_networks=num_networks, num_inference_steps=num_inference_steps, generator=generator, **budget
        )
        return [network.cpu() for network in output.networks]
    # architectures alone, then their weights
    spaces = pipe.prepare_spaces(None, **budget) * num_networks
    generators = generator_per_network(generator, num_networks)
    architectures = pipe.sample_architectures(spaces, num_inference_steps, generators)
    model: Any = getattr(pipe, source)
    return [network.cpu() for network in model.generate(architectures, generator=generator)]
