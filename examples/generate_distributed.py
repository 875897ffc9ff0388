"""Generates networks on several processes: the options, the networks and the folder of `nnit generate`.

    accelerate launch --multi_gpu --num_processes 2 examples/generate_distributed.py nnit/digits --arch 48 40 \
        --num-networks 1000 --output networks

Every network has a generator of its own, so network k is the same for any number of processes, up to rounding.
Accelerate starts several processes for GPUs alone. On CPUs, `torchrun` starts them:

    ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 examples/generate_distributed.py ...

With processes on several machines, `--output` has to be in a folder that all of them share.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
import tyro
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from nnit_diffusers import MLP, NNiTPipeline, split_generator
from nnit_diffusers.cli.command import check_new_folder
from nnit_diffusers.cli.generate import Generate
from nnit_diffusers.cli.sources import NETWORKS_NAME, load_pipeline
from nnit_diffusers.writing import replacing_folder


def generate(
    pipe: NNiTPipeline, options: Generate, numbers: list[int], generators: list[torch.Generator]
) -> list[MLP]:
    """Generates some networks of a request, those of these numbers, on the CPU."""
    if not numbers:
        return []
    own = [list(options.arch[number // options.num_networks]) for number in numbers] if options.arch else None
    output = pipe(
        own,
        num_networks=1 if own else len(numbers),
        num_inference_steps=options.num_inference_steps,
        min_parameters=options.min_parameters,
        max_parameters=options.max_parameters,
        temperature=options.temperature,
        generator=[generators[number] for number in numbers],
    )
    return [network.cpu() for network in output.networks]


def main(options: Generate) -> None:
    state = PartialState()
    options = replace(options, device=str(state.device))
    output = Path(options.output)
    check_new_folder(output, options.force, NETWORKS_NAME)
    pipe = load_pipeline(options.model, options.revision, options.device)
    num_networks = max(len(options.arch), 1) * options.num_networks
    generators = split_generator(torch.Generator().manual_seed(options.seed), num_networks)

    # all processes write into a new folder, which replaces `output` once it has all networks
    with replacing_folder(output) if state.is_main_process else nullcontext(output) as new:
        (folder,) = broadcast_object_list([new])
        with state.split_between_processes(list(range(num_networks))) as numbers:
            networks = generate(pipe, options, numbers, generators)
            options.attach_contracts(pipe, networks, numbers)
            listed = [
                options.save(folder, *numbered, num_networks) for numbered in zip(numbers, networks, strict=True)
            ]
        # in order of the processes, and so of the networks
        listed = gather_object(listed)
        if state.is_main_process:
            options.save_list(folder, pipe, listed)
    state.wait_for_everyone()
    state.print(f"Saved {num_networks} networks in {output}, generated on {state.num_processes} process(es).")
    state.destroy_process_group()


if __name__ == "__main__":
    main(tyro.cli(Generate, description=__doc__))
