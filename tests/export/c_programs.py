"""Compiles exported headers and runs them."""

import json
import shutil
import subprocess

import pytest
import torch

from nnit_diffusers import NetworkContract
from nnit_diffusers.contract import IOTerm


WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow")
SANITIZERS = ("-fsanitize=undefined,address,float-cast-overflow", "-fno-sanitize-recover=all")
# Reads vectors from a file, and prints the outputs for each; it returns 1 if a self-test fails.
MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include "policy.h"

int main(int argc, char **argv)
{
    FILE *file = fopen(argv[argc - 1], "rb");
    float observations[NNIT_NUM_OBSERVATIONS], outputs[NNIT_NUM_OUTPUTS];
    while (file != NULL && fread(observations, sizeof observations, 1, file) == 1) {
        nnit_forward(observations, outputs);
        for (int i = 0; i < NNIT_NUM_OUTPUTS; i++) {
            printf("%s%.9g", i == 0 ? "" : " ", (double)outputs[i]);
        }
        printf("\\n");
    }
    return nnit_self_test() == 1 ? 0 : 1;
}
"""

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
needs_gpp = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


def compile_c(folder, sources, compiler="gcc", options=("-std=c99",)):
    """Compiles files, given by their names and contents, and returns the program."""
    for name, text in sources.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    files = [name for name in sources if not name.endswith(".h")]
    command = [compiler, *options, *WARNINGS, "-O1", "-o", "program", *files, "-lm"]
    compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    return folder / "program"


def can_compile(folder, *options, compiler="gcc"):
    """If programs can be compiled with these options, and run."""
    (folder / "empty.c").write_text("int main(void) { return 0; }\n")
    command = [compiler, *options, "-o", "empty", "empty.c"]
    compiled = subprocess.run(command, cwd=folder, capture_output=True).returncode == 0
    return compiled and subprocess.run([folder / "empty"]).returncode == 0


def run_c(program, inputs):
    """Outputs `[N, O]` of a program for inputs `[N, I]`; its self-test passes."""
    path = program.with_suffix(".inputs")
    path.write_bytes(inputs.float().numpy().tobytes())
    finished = subprocess.run([program, path], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr or "the self-test failed"
    lines = finished.stdout.splitlines()
    return torch.tensor([[float(number) for number in line.split()] for line in lines])


def run_header(folder, header, inputs, options=("-std=c99",)):
    """Outputs of a header in a program of one file."""
    sources = {"policy.h": header, "main.c": f"#define NNIT_IMPLEMENTATION\n{MAIN}"}
    return run_c(compile_c(folder, sources, options=options), inputs)


def symbol_bytes(program, *kinds):
    """Bytes of the symbols of a program by name, of the kinds that `nm` gives."""
    lines = subprocess.run(["nm", "-S", program], capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line.split() for line in lines if len(line.split()) == 4]
    return {name: int(size, 16) for _, size, kind, name in found if kind in kinds}


def with_contract(network, low=-1.0, high=1.0):
    """The network with a contract of these bounds, and the contract as JSON has it."""
    num_outputs = network.architecture.out_features
    actions = IOTerm("arm", (num_outputs,), clip=((low, high),) * num_outputs)
    network.contract = NetworkContract(task='pick *\\/ a "cube"', actions=(actions,))
    return network, json.loads(json.dumps(network.contract.to_dict()))
