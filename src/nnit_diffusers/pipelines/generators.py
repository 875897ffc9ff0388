"""Random generators for the networks of a request."""

from __future__ import annotations

import torch

from ..loading.limits import shown


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
    devices = ["cpu" if source is None else source.device for source in sources]
    seeds = [
        torch.randint(2**63 - 1, (), generator=source, device=device)
        for source, device in zip(sources, devices, strict=True)
    ]
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]
