"""C code of a network compiles without a warning, and computes what torch computes."""

import os
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch
from c_programs import (
    MAIN,
    SANITIZERS,
    can_compile,
    compile_c,
    needs_gcc,
    needs_gpp,
    run_c,
    run_header,
    symbol_bytes,
)

from nnit_diffusers import MLP
from nnit_diffusers.architecture import ACTIVATIONS, MLPArchitecture
from nnit_diffusers.export import footprint, quantize, to_c
from nnit_diffusers.export.c_header import C_ACTIVATIONS
from nnit_diffusers.folding import fold_observation_statistics


def network_of(hidden_sizes, activation="relu", in_features=5, out_features=3):
    return MLP(in_features, hidden_sizes, out_features, activation).eval().requires_grad_(False)


def robot_network(hidden_sizes, activation="relu"):
    """A network of observations whose means and scales differ by orders of magnitude, and such observations."""
    network = network_of(hidden_sizes, activation, 12, 4)
    mean, std = torch.linspace(-3, 3, 12), torch.logspace(-2, 2, 12)
    network.load_state_dict(fold_observation_statistics(network.state_dict(), mean * std * 10, std))
    return network, (torch.randn(40, 12) + mean * 10) * std


def assert_equal(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


# Functions of two C libraries differ in their last bit, after which an input may be rounded to the next integer.
INT8_TOLERANCE = {"relu": 1e-6, "leaky_relu": 1e-6}


def tolerance_of(activation, quantization):
    return 1e-5 if quantization is None else INT8_TOLERANCE.get(activation, 2e-4)


def reference(network, quantization):
    return network if quantization is None else quantize(network)


@needs_gcc
@pytest.mark.parametrize("quantization", [None, "int8"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden_sizes", [[8], [3, 9], [9, 7, 11]])
def test_the_program_computes_what_torch_does_and_passes_its_self_test(
    tmp_path, activation, hidden_sizes, quantization
):
    network, inputs = robot_network(hidden_sizes, activation)
    found = run_header(tmp_path, to_c(network, quantization), inputs)
    assert_equal(found, reference(network, quantization)(inputs), tolerance_of(activation, quantization))


@needs_gcc
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_sanitizers_find_nothing_even_in_extreme_inputs(tmp_path, quantization):
    if not can_compile(tmp_path, *SANITIZERS):
        pytest.skip("this gcc has no sanitizers")
    network = network_of([9, 7], "tanh")
    inputs = torch.randn(60, 5) * torch.logspace(-45, 38, 60)[:, None]
    inputs[:3] = torch.tensor([[0.0], [3.4e38], [-3.4e38]])
    found = run_header(tmp_path, to_c(network, quantization), inputs, ("-std=c99", *SANITIZERS))
    assert_equal(found, reference(network, quantization)(inputs), tolerance_of("tanh", quantization))


@needs_gcc
@pytest.mark.parametrize("quantization", [None, "int8"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_input_that_is_no_number_reaches_the_outputs_as_in_torch(tmp_path, activation, quantization, bad):
    network = network_of([9, 7], activation)
    inputs = torch.ones(2, 5)
    inputs[0, 2] = bad
    clipped = to_c(network, quantization, clip_actions=(-1e30, 1e30))
    found = run_header(tmp_path, clipped, inputs)
    expected = reference(network, quantization)(inputs)
    if quantization or bad != bad:
        assert found[0].isnan().all() and expected[0].isnan().all()
    assert_equal(found[1:], expected[1:])


@needs_gcc
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_it_runs_as_a_32_bit_program(tmp_path, quantization):
    if not can_compile(tmp_path, "-m32"):
        pytest.skip("this gcc builds no 32-bit programs: `apt-get install gcc-multilib`")
    network, inputs = robot_network([9, 7])
    found = run_header(tmp_path, to_c(network, quantization), inputs, ("-std=c99", "-m32"))
    # registers of 80 bits round later, so an input may be rounded to the next integer
    assert_equal(found, reference(network, quantization)(inputs), 1e-4)


@needs_gcc
@needs_gpp
@pytest.mark.parametrize("quantization", [None, "int8"])
@pytest.mark.parametrize("compiler", ["gcc", "g++"])
def test_two_files_include_it_and_the_weights_are_in_the_program_once(tmp_path, compiler, quantization):
    network, inputs = robot_network([9, 7])
    suffix, options = {"gcc": ("c", ["-std=c99"]), "g++": ("cpp", ["-std=c++11"])}[compiler]
    sources = {
        "policy.h": to_c(network, quantization, clip_actions=(-1, 1)),
        # both files include it twice
        f"main.{suffix}": f'#include "policy.h"\n{MAIN}',
        f"weights.{suffix}": '#define NNIT_IMPLEMENTATION\n#include "policy.h"\n#include "policy.h"\n',
    }
    program = compile_c(tmp_path, sources, compiler, options)
    assert_equal(run_c(program, inputs), reference(network, quantization)(inputs).clamp(-1, 1))

    # what the linker placed in read-only memory is what the footprint promises
    arrays = {name: size for name, size in symbol_bytes(program, "r", "R").items() if "nnit_" in name}
    weights = {name: size for name, size in arrays.items() if "self_test" not in name}
    promised = footprint(network.architecture, quantization, clips=True)
    assert sum(weights.values()) == promised.weight_bytes


@needs_gcc
@needs_gpp
def test_a_program_in_cpp_calls_an_implementation_in_c(tmp_path):
    network, inputs = robot_network([9, 7])
    (tmp_path / "policy.h").write_bytes(to_c(network))
    (tmp_path / "weights.c").write_text('#define NNIT_IMPLEMENTATION\n#include "policy.h"\n')
    subprocess.run(["gcc", "-std=c99", "-c", "weights.c"], cwd=tmp_path, check=True)
    program = compile_c(tmp_path, {"main.cpp": MAIN}, "g++", ["-std=c++11", "weights.o"])
    assert_equal(run_c(program, inputs), network(inputs))


@needs_gcc
def test_networks_of_two_prefixes_are_in_one_program(tmp_path):
    first, inputs = robot_network([9])
    second, _ = robot_network([4, 6], "tanh")
    both = MAIN.replace('#include "policy.h"', '#include "policy.h"\n#include "walk.h"').replace(
        "        nnit_forward(observations, outputs);",
        "        nnit_forward(observations, outputs);\n        walk_forward(observations, outputs);",
    )
    macros = "#define NNIT_IMPLEMENTATION\n#define WALK_IMPLEMENTATION\n"
    sources = {
        "policy.h": to_c(first),
        "walk.h": to_c(second, "int8", prefix="walk"),
        "main.c": macros + both,
    }
    program = compile_c(tmp_path, sources)
    assert_equal(run_c(program, inputs), quantize(second)(inputs), tolerance_of("tanh", "int8"))


@needs_gcc
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_buffers_in_static_memory_are_those_of_the_footprint(tmp_path, quantization):
    network, inputs = robot_network([9, 7, 5])
    header = to_c(network, quantization)
    static = {"policy.h": header, "main.c": f"#define NNIT_IMPLEMENTATION\n#define NNIT_BUFFER static\n{MAIN}"}
    program = compile_c(tmp_path, static)
    assert_equal(run_c(program, inputs), reference(network, quantization)(inputs))
    buffers = {name.split(".")[0]: size for name, size in symbol_bytes(program, "b").items()}
    promised = footprint(network.architecture, quantization).buffer_bytes
    assert sum(buffers.get(name, 0) for name in ("even", "odd", "values", "integers")) == promised


@needs_gcc
def test_outputs_may_be_written_over_the_observations(tmp_path):
    network, inputs = robot_network([9, 7])
    main = (
        MAIN.replace("nnit_forward(observations, outputs);", "nnit_forward(observations, observations);")
        .replace("outputs[i]", "observations[i]")
        .replace(", outputs[NNIT_NUM_OUTPUTS]", "")
    )
    sources = {"policy.h": to_c(network), "main.c": f"#define NNIT_IMPLEMENTATION\n{main}"}
    assert_equal(run_c(compile_c(tmp_path, sources), inputs), network(inputs))


@needs_gcc
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_the_self_test_notices_a_changed_weight(tmp_path, quantization):
    header = to_c(network_of([4, 3]), quantization).decode()
    first = header.index("{\n", header.index("nnit_bias_1[3]"))
    changed = f"{header[:first]}{{\n    9.0f +{header[first + 1 :]}"
    sources = {"policy.h": changed, "main.c": f"#define NNIT_IMPLEMENTATION\n{MAIN}"}
    (tmp_path / "none").write_bytes(b"")
    assert subprocess.run([compile_c(tmp_path, sources), tmp_path / "none"]).returncode == 1


@needs_gcc
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_outputs_have_the_output_activation_of_the_architecture(tmp_path, quantization):
    network, inputs = robot_network([6], "relu")
    expected = reference(network, quantization)(inputs).tanh()
    bounded = MLP.from_architecture(replace(network.architecture, output_activation="tanh"), network.state_dict())
    assert_equal(run_header(tmp_path, to_c(bounded, quantization), inputs), expected)


def test_the_same_network_gives_the_same_bytes_and_relu_needs_no_library():
    network = network_of([9, 7])
    for quantization in (None, "int8"):
        assert to_c(network, quantization) == to_c(network, quantization)
        assert b"math.h" not in to_c(network, quantization)
    assert b"math.h" in to_c(network_of([9], "tanh"))


def test_bytes_of_int8_are_a_quarter_of_those_of_floats():
    architecture = MLPArchitecture(42, (256, 256, 256), 8)
    floats, integers = footprint(architecture), footprint(architecture, "int8")
    assert floats.multiply_accumulates == integers.multiply_accumulates == 42 * 256 + 2 * 256 * 256 + 256 * 8
    assert floats.weight_bytes == 4 * architecture.num_parameters
    assert integers.weight_bytes < 0.3 * floats.weight_bytes
    assert (floats.buffer_bytes, integers.buffer_bytes) == (2048, 1536)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int4"}, "`quantize` must be one of .*'int8'.* but received 'int4'"),
        ({"prefix": "2nd"}, "`prefix` must be 1 to 16 lower-case letters.* but received '2nd'"),
        ({"prefix": "Policy"}, "but received 'Policy'"),
        ({"prefix": "a" * 17}, "`prefix` must be 1 to 16"),
        ({"clip_actions": (1, -1)}, "`low` of `clip_actions` must be at most `high`, but received 1.0 and -1.0"),
        ({"clip_actions": (-1, [1, 2])}, r"`high` of `clip_actions` must be one number or 3 numbers, .* \[1, 2\]"),
        ({"clip_actions": (float("nan"), 1)}, "`low` of `clip_actions` must be one number"),
        ({"clip_actions": "yes"}, r"`clip_actions` must be True or `\(low, high\)`, but received 'yes'"),
        ({"clip_actions": True}, "`clip_actions` must be the bounds .* because the contract .* has none"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        to_c(network_of([4]), **options)
    assert "\n" not in str(refusal.value)


def test_every_activation_of_a_network_is_there_in_c():
    assert set(ACTIVATIONS) <= set(C_ACTIVATIONS)


def test_compilers_that_tests_need_are_those_of_the_ci():
    """Without this, a machine that lost its compiler would skip every test above and still be green."""
    if os.environ.get("CI"):
        assert shutil.which("gcc") and shutil.which("g++")
