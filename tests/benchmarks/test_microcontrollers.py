"""Exported networks built for Cortex-M and run in QEMU, where the tools are installed."""

import shutil

import pytest
from microcontrollers import CORES, build, execute

from nnit_diffusers import MLP, MLPArchitecture
from nnit_diffusers.export import footprint, to_c


pytestmark = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None,
    reason="no Arm compiler or no QEMU: `apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm`",
)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("precision", [None, "int8"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_network_passes_its_self_test_on_the_core_and_has_the_promised_bytes(tmp_path, core, precision, activation):
    architecture = MLPArchitecture(5, (9, 7), 3, activation)
    header = to_c(MLP.from_architecture(architecture), precision)
    sizes = build(header, CORES[core], "arm-none-eabi-gcc", tmp_path)
    promised = footprint(architecture, precision)
    assert sizes["weight_bytes"] == promised.weight_bytes
    assert promised.buffer_bytes <= sizes["stack_bytes"] < promised.buffer_bytes + 200
    instructions = execute(CORES[core], "arm-none-eabi-gcc", tmp_path)
    assert promised.multiply_accumulates < instructions < 1000 * promised.multiply_accumulates


def test_a_failed_self_test_and_a_board_that_is_too_small_are_noticed(tmp_path):
    header = to_c(MLP(5, [9], 3)).replace(b"nnit_bias_1[3] = {\n    ", b"nnit_bias_1[3] = {\n    9.0f +")
    build(header, CORES["Cortex-M3"], "arm-none-eabi-gcc", tmp_path)
    with pytest.raises(RuntimeError, match="The self-test failed on mps2-an385"):
        execute(CORES["Cortex-M3"], "arm-none-eabi-gcc", tmp_path)
    build(to_c(MLP(42, [256, 256], 8)), CORES["Cortex-M0"], "arm-none-eabi-gcc", tmp_path)
    assert execute(CORES["Cortex-M0"], "arm-none-eabi-gcc", tmp_path) is None
