"""Random generators for the networks of a request."""

from __future__ import annotations

import torch

from ..loading.limits import MAX_NETWORKS, check_count, shown


def generator_per_network(
    generator: torch.Generator | list[torch.Generator] | None, num_networks: int
) -> list[torch.Generator]:
    """Returns a generator for every network, so that a network does not depend on how many others there are.

    Parameters:
        generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
            One that seeds all of them, or a list with one for each; torch's global generator by default.
        num_networks (`int`): Number of networks.

    Raises:
        `ValueError`: If it is neither, or a list that does not hold one generator per network.
    """
    entries = generator if isinstance(generator, list) else [generator]
    for entry in entries:
        if not isinstance(entry, torch.Generator) and (entry is not None or isinstance(generator, list)):
            raise ValueError(
                "`generator` must be a `torch.Generator` or a list of them, such as "
                f"`torch.Generator().manual_seed(0)`, but received {shown(entry)}."
            )
    if isinstance(generator, list) and len(generator) != num_networks:
        raise ValueError(
            f"`generator` must be one or a list of {num_networks} (one for each network), but received a list of "
            f"{len(generator)}."
        )
    sources = generator if isinstance(generator, list) else [generator] * num_networks
    return [torch.Generator().manual_seed(_drawn_seed(source)) for source in sources]


def split_generator(generator: torch.Generator, num_networks: int) -> list[torch.Generator]:
    """Returns a generator for every network of a request, to split the request over calls or processes.

    The k-th network of a call of the pipeline with `generator` is, up to rounding, the one of a call with the k-th
    generator. `generator` advances, as by the request.

    Parameters:
        generator (`torch.Generator`): Generator of the request.
        num_networks (`int`): Number of networks of the request.

    Raises:
        `ValueError`: If `num_networks` is not positive or too large.

    Example:
        ```py
        >>> import torch
        >>> from accelerate import PartialState
        >>> from nnit_diffusers import NNiTPipeline, split_generator

        >>> state = PartialState()
        >>> pipe = NNiTPipeline.from_pretrained("nnit/digits").to(state.device)
        >>> generators = split_generator(torch.Generator().manual_seed(0), num_networks=100)
        >>> with state.split_between_processes(generators) as own:
        ...     networks = pipe([48, 40], num_networks=len(own), generator=own).networks
        ```
    """
    check_count("num_networks", num_networks, MAX_NETWORKS)
    parts = []
    for _ in range(num_networks):
        part = torch.Generator(generator.device)
        part.set_state(generator.get_state())
        parts.append(part)
        _drawn_seed(generator)
    return parts


def _drawn_seed(source: torch.Generator | None) -> int:
    device = "cpu" if source is None else source.device
    return int(torch.randint(2**63 - 1, (), generator=source, device=device))
