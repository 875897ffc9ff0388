"""Builds exported networks for Arm Cortex-M, and measures flash, RAM and instructions.

    apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
    python benchmarks/microcontrollers.py --output_path docs/measurements/microcontrollers.json

Every network is compiled with `arm-none-eabi-gcc -Os`, linked with a start-up code of a few lines, and run in QEMU,
where its self-test has to pass. QEMU executes one instruction per step of virtual time, so the core's own timer counts
the instructions of a call. These are no cycles: memory, pipelines and the hardware of a board are not modelled.
"""

import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import tyro

from nnit_diffusers import MLP, MLPArchitecture
from nnit_diffusers.export import footprint, to_c
from nnit_diffusers.markdown import markdown_table
from nnit_diffusers.provenance import provenance
from nnit_diffusers.writing import write_json


@dataclass(frozen=True)
class Core:
    """A processor: compiler options, and the board of QEMU that has one.

    Parameters:
        options (`tuple[str, ...]`): Options of the compiler.
        board (`str`): Machine of QEMU.
        flash, ram (`int`): Bytes that the board has.
        ticks_per_second (`int`): Rate of the core's timer in QEMU.
    """

    options: tuple[str, ...]
    board: str
    flash: int
    ram: int
    ticks_per_second: int


CORES = {
    "Cortex-M0": Core(("-mcpu=cortex-m0",), "microbit", 2**18, 2**14, 16_000_000),
    "Cortex-M3": Core(("-mcpu=cortex-m3",), "mps2-an385", 2**22, 2**22, 25_000_000),
    "Cortex-M4F": Core(
        ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"), "mps2-an386", 2**22, 2**22, 25_000_000
    ),
}
ARCHITECTURES = (
    MLPArchitecture(42, (82,), 8),
    MLPArchitecture(42, (64, 64), 8),
    MLPArchitecture(64, (48, 40), 10),
    MLPArchitecture(42, (256, 256, 256), 8),
)
# Each instruction takes 2^5 ns of virtual time.
ICOUNT_SHIFT = 5
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Os", "-mthumb", "-ffunction-sections")
LINKER_SCRIPT = """\
MEMORY {{ flash (rx) : ORIGIN = 0, LENGTH = {flash} ram (rwx) : ORIGIN = 0x20000000, LENGTH = {ram} }}
top_of_stack = ORIGIN(ram) + LENGTH(ram);
SECTIONS {{
    .text : {{ KEEP(*(.vectors)) *(.text*) *(.rodata*) }} > flash
    .ARM.exidx : {{ *(.ARM.exidx*) }} > flash
    .bss : {{ *(.data*) *(.bss*) *(COMMON) }} > ram
}}
"""
# Semihosting: 0x04 prints a string, and 0x18 ends QEMU.
PROGRAM = """\
#define NNIT_IMPLEMENTATION
#include "policy.h"
#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))

extern uint32_t top_of_stack;

static void semihost(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static void print_number(uint32_t number)
{
    char digits[12];
    int place = 11;
    digits[place] = 0;
    do {
        digits[--place] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    semihost(0x04, &digits[place]);
    semihost(0x04, " ");
}

static float observations[NNIT_NUM_OBSERVATIONS], outputs[NNIT_NUM_OUTPUTS];

void reset(void)
{
#ifdef __ARM_FP
    REGISTER(0xE000ED88) |= 0xFu << 20; /* switches the floating-point unit on */
    __asm__ volatile("dsb\\nisb");
#endif
    REGISTER(0xE000E014) = 0xFFFFFF; /* SysTick: counts down from the largest number, at the clock of the core */
    REGISTER(0xE000E018) = 0;
    REGISTER(0xE000E010) = 5;
    for (int i = 0; i < NNIT_NUM_OBSERVATIONS; i++) {
        observations[i] = 0.1f * (float)(i % 7) - 0.3f;
    }
    print_number((uint32_t)nnit_self_test());
    const uint32_t start = REGISTER(0xE000E018);
    nnit_forward(observations, outputs);
    print_number((start - REGISTER(0xE000E018)) & 0xFFFFFF);
    semihost(0x18, (const void *)0x20026);
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static void *const vectors[] = {&top_of_stack, (void *)reset};
"""


@dataclass
class Arguments:
    """Builds networks for Cortex-M and runs them in QEMU."""

    output_path: str
    """JSON file to write."""
    compiler: str = "arm-none-eabi-gcc"
    """Compiler."""


def run(*command: str | Path, folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def build(header: bytes, core: Core, compiler: str, folder: Path) -> dict[str, int]:
    """Compiles a header alone; returns bytes of its code and weights, without the self-test, and of its stack."""
    (folder / "policy.h").write_bytes(header)
    (folder / "policy.c").write_text('#define NNIT_IMPLEMENTATION\n#include "policy.h"\n')
    run(compiler, *FLAGS, *core.options, "-fdata-sections", "-fstack-usage", "-c", "policy.c", folder=folder)
    sections = re.findall(r"^\.(\w+)\.(\S+) +(\d+)", run("arm-none-eabi-size", "-A", "policy.o", folder=folder), re.M)
    used = [
        (kind, int(size)) for kind, name, size in sections if not name.startswith(("nnit_self", "expected", "obs"))
    ]
    stacks = re.findall(r":nnit_(\w+)\S*\t(\d+)\t", (folder / "policy.su").read_text())
    frames = {name: int(size) for name, size in stacks if name != "self_test"}
    forward = frames.pop("forward")
    return {
        "code_bytes": sum(size for kind, size in used if kind == "text"),
        "weight_bytes": sum(size for kind, size in used if kind == "rodata"),
        "stack_bytes": forward + max(frames.values(), default=0),
    }


def execute(core: Core, compiler: str, folder: Path) -> int | None:
    """Runs the header in QEMU; returns the instructions of one call, or `None` if the board is too small for it."""
    (folder / "memory.ld").write_text(LINKER_SCRIPT.format(flash=core.flash, ram=core.ram))
    (folder / "main.c").write_text(PROGRAM)
    link = (
        "-nostartfiles",
        "--specs=nano.specs",
        "-T",
        "memory.ld",
        "-Wl,--gc-sections",
        "main.c",
        "-lm",
        "-o",
        "main.elf",
    )
    try:
        run(compiler, *FLAGS, "-Wno-pedantic", *core.options, *link, folder=folder)
    except subprocess.CalledProcessError as error:
        if "will not fit in region" not in error.stderr:
            raise RuntimeError(error.stderr) from error
        return None
    emulator = ("qemu-system-arm", "-M", core.board, "-nographic", "-monitor", "none", "-serial", "none")
    timing = ("-semihosting", "-icount", f"shift={ICOUNT_SHIFT}", "-kernel", "main.elf")
    # QEMU prints the semihosting output to stderr
    shown = subprocess.run(
        [*emulator, *timing],
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    passed, ticks = map(int, shown.stdout.split())
    if not passed:
        raise RuntimeError(f"The self-test failed on {core.board}.")
    return round(ticks / core.ticks_per_second * 1e9 / 2**ICOUNT_SHIFT)


def measure(arguments: Arguments) -> list[dict[str, Any]]:
    rows = []
    for architecture in ARCHITECTURES:
        torch.manual_seed(0)
        network = MLP.from_architecture(architecture)
        for precision in (None, "int8"):
            header = to_c(network, precision)
            for name, core in CORES.items():
                with TemporaryDirectory() as folder:
                    sizes = build(header, core, arguments.compiler, Path(folder))
                    instructions = execute(core, arguments.compiler, Path(folder))
                expected = footprint(architecture, precision)
                if sizes["weight_bytes"] != expected.weight_bytes:
                    raise RuntimeError(
                        f"{architecture} has {sizes['weight_bytes']} bytes, not {expected.weight_bytes}."
                    )
                rows.append(
                    {
                        "architecture": str(architecture),
                        "weights": precision or "float32",
                        "core": name,
                        **sizes,
                        "buffer_bytes": expected.buffer_bytes,
                        "multiply_accumulates": expected.multiply_accumulates,
                        "instructions": instructions,
                    }
                )
    return rows


def main(arguments: Arguments) -> None:
    rows = measure(arguments)
    with TemporaryDirectory() as folder:
        versions = {
            program: run(program, "--version", folder=Path(folder)).splitlines()[0]
            for program in (arguments.compiler, "qemu-system-arm")
        }
    write_json(arguments.output_path, {"settings": {**asdict(arguments), **provenance(), **versions}, "rows": rows})
    header = ["network", "weights", "core", "code", "weight bytes", "stack", "instructions"]
    keys = ("architecture", "weights", "core", "code_bytes", "weight_bytes", "stack_bytes", "instructions")
    table = [[f"{row[key]:,}" if isinstance(row[key], int) else str(row[key] or "-") for key in keys] for row in rows]
    print(markdown_table(header, table))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
