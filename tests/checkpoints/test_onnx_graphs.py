"""Networks are read from the graph of an ONNX model, whichever operators it is made of."""

import math
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from teacher_files import OBSERVATIONS, expected
from torch import nn

from nnit_diffusers import MLP


RNG = np.random.default_rng(0)
WEIGHTS = {
    name: RNG.normal(size=shape).astype(np.float32)
    for name, shape in {"w0": (5, 8), "b0": (8,), "w1": (8, 3), "b1": (3,), "mean": (1, 5)}.items()
} | {"std": RNG.uniform(0.5, 2.0, (1, 5)).astype(np.float32)}
FIRST, SECOND = ("MatMul x w0 -> h", "Add h b0 -> a"), ("MatMul y w1 -> p", "Add b1 p -> out")


def model_of(*nodes, shape=("batch", 5), constants=None, output="out"):
    """A model of nodes such as `"Add h b0 -> a"`, and `"Elu a -> y alpha=0.5"`."""
    helper, made = onnx.helper, []
    for node in nodes:
        left, _, right = node.partition(" -> ")
        kind, *inputs = left.split()
        result, *attributes = right.split()
        options = {key: float(v) if "." in v else int(v) for key, v in (each.split("=") for each in attributes)}
        made.append(helper.make_node(kind, ["" if name == "-" else name for name in inputs], [result], **options))
    used = {name for node in made for name in node.input}
    values = WEIGHTS | {name: np.asarray(value, dtype=np.float32) for name, value in (constants or {}).items()}
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in values.items() if name in used]
    ends = [helper.make_tensor_value_info("x", 1, shape)], [helper.make_tensor_value_info(output, 1, None)]
    graph = helper.make_graph(made, "policy", *ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def read(path, model, **options):
    path.write_bytes(model.SerializeToString())
    return MLP.from_checkpoint(path, **options)


def outputs_of(model, observations=OBSERVATIONS):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["out"], {"x": observations.astype(np.float32)})[0]


ROOT = {"root": math.sqrt(2), "inverse": 1 / math.sqrt(2), "one": 1, "half": 0.5, "zero": 0, "big": 1e9, "slope": 0.01}


@pytest.mark.parametrize(
    ("activation", "nodes"),
    [
        ("relu", ["Relu a -> y"]),
        ("relu", ["Clip a zero - -> y"]),
        ("tanh", ["Tanh a -> y"]),
        ("elu", ["Elu a -> y"]),
        ("leaky_relu", ["LeakyRelu a -> y"]),
        ("gelu", ["Gelu a -> y"]),
        # torch's exporter, and two other orders
        ("gelu", ["Div a root -> b", "Erf b -> c", "Add c one -> d", "Mul a d -> e", "Mul e half -> y"]),
        ("gelu", ["Mul a inverse -> b", "Erf b -> c", "Add one c -> d", "Mul half a -> e", "Mul d e -> y"]),
        ("gelu", ["Mul a inverse -> b", "Erf b -> c", "Add one c -> d", "Mul half d -> e", "Mul e a -> y"]),
        ("silu", ["Sigmoid a -> s", "Mul a s -> y"]),
        ("silu", ["Sigmoid a -> s", "Identity a -> i", "Mul s i -> y"]),
        ("leaky_relu", ["LeakyRelu a -> b alpha=0.01", "Dropout b -> y"]),
    ],
)
def test_an_activation_is_recognised_by_what_it_computes(tmp_path, activation, nodes):
    model = model_of(*FIRST, *nodes, *SECOND, constants=ROOT)
    network = read(tmp_path / "policy.onnx", model)
    assert network.architecture.activation == activation
    np.testing.assert_allclose(expected(network), outputs_of(model), atol=1e-5)
    assert np.array_equal(network[0].weight.detach().numpy(), WEIGHTS["w0"].T)
    assert np.array_equal(network[2].bias.detach().numpy(), WEIGHTS["b1"])


@pytest.mark.parametrize(
    "nodes",
    [
        ["Gemm x w0 b0 -> a"],
        ["Transpose w0 -> t perm=1 perm=0", "Gemm x t b0 -> a transB=1"],
        ["Gemm x w0 b0 -> a alpha=0.5 beta=2.0"],
        ["Gemm x w0 -> a"],
        ["Flatten x -> f", "Gemm f w0 b0 -> a"],
        ["Sub x mean -> c", "Div c std -> n", "Gemm n w0 b0 -> a"],
        # the sum of two constants is a constant
        ["Sub x mean -> c", "Add std half -> s", "Div c s -> n", "MatMul n w0 -> h", "Add h b0 -> a"],
        ["Mul x std -> c", "Add c mean -> n", "Gemm n w0 b0 -> a"],
        ["Sub x half -> c", "Gemm c w0 b0 -> a"],
    ],
)
def test_layers_and_normalisers_of_any_form_compute_the_same(tmp_path, nodes):
    nodes = [node.replace(" perm=1 perm=0", "") for node in nodes]
    model = model_of(*nodes, "Tanh a -> y", *SECOND, constants=ROOT)
    network = read(tmp_path / "policy.onnx", model)
    assert network.architecture.hidden_sizes == (8,)
    np.testing.assert_allclose(expected(network), outputs_of(model), atol=2e-5)


def test_one_observation_and_further_outputs_are_accepted(tmp_path):
    model = model_of(*FIRST, "Relu a -> y", *SECOND, "Softmax a -> value", shape=(1, 5))
    model.graph.output.append(onnx.helper.make_tensor_value_info("value", 1, None))
    assert read(tmp_path / "policy.onnx", model).architecture.out_features == 3


BOUNDS = {"low": -1.0, "high": 1.0, "five": 5.0, "minus": -5.0, **ROOT}


def test_a_clip_is_refused_and_left_out_on_request(tmp_path):
    plain = (*FIRST, "Relu a -> y", "MatMul y w1 -> p")
    normalised = ("Sub x mean -> c", "Div c std -> d", "Clip d minus five -> n", "Gemm n w0 b0 -> a", "Relu a -> y")
    for nodes, message in (
        ((*plain, "Add p b1 -> q", "Clip q low high -> out"), "clips its outputs to -1…1, which an MLP can't hold"),
        ((*normalised, *SECOND), "clips its normalised observations to -5…5"),
        (("Clip x minus five -> n", "Gemm n w0 b0 -> a", "Relu a -> y", *SECOND), "clips its observations to -5…5"),
    ):
        model = model_of(*nodes, constants=BOUNDS)
        with pytest.raises(ValueError, match=message) as refusal:
            read(tmp_path / "policy.onnx", model)
        assert "--ignore-clip" in str(refusal.value)
        network = read(tmp_path / "policy.onnx", model, ignore_clip=True)
        near = OBSERVATIONS[:1] * 0.01
        is_clipped = "Clip q" in " ".join(nodes)
        found = expected(network, near)
        np.testing.assert_allclose(found.clip(-1, 1) if is_clipped else found, outputs_of(model, near), atol=1e-5)


def test_a_tanh_at_the_output_is_read_and_a_clip_after_it_changes_nothing(tmp_path):
    for nodes in (["Tanh q -> out"], ["Tanh q -> t", "Clip t low high -> out"]):
        model = model_of(*FIRST, "Relu a -> y", "Gemm y w1 b1 -> q", *nodes, constants=BOUNDS)
        network = read(tmp_path / "policy.onnx", model)
        assert network.architecture.output_activation == "tanh"
        np.testing.assert_allclose(expected(network), outputs_of(model), atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([*FIRST, "Softplus a -> y", *SECOND], "has the operator Softplus"),
        ([*FIRST, "Elu a -> y alpha=0.5", *SECOND], "has Elu after a linear layer, which is none of the activations"),
        ([*FIRST, "LeakyRelu a -> y alpha=0.2", *SECOND], "has LeakyRelu after a linear layer, which is none"),
        ([*FIRST, "Clip a zero five -> y", *SECOND], "has .*Clip between two linear layers"),
        ([*FIRST, *SECOND[:1], *SECOND[1:]], "before it is computed"),
        ([*FIRST, "Identity a -> y", *SECOND], "has Add between two linear layers, where one activation is expected"),
        ([*FIRST, "Relu a -> b", "Mul b half -> y", *SECOND], "has Add, Relu, Mul between two linear layers"),
        (
            [*FIRST, "Relu a -> r", "Tanh a -> t", "Add r t -> y", *SECOND],
            "has .*Add after a linear layer",
        ),
        ([*FIRST, "Sigmoid a -> y", *SECOND], "has Sigmoid after a linear layer, which is none of the activations"),
        (["Tanh x -> t", "Gemm t w0 b0 -> a", "Relu a -> y", *SECOND], "has Tanh before the first layer"),
        (["Identity x -> out"], "outputs that no linear layer computes"),
        ([*FIRST, "Relu a -> y", "Gemm y w1 b1 -> p", "Relu p -> out"], "ends in relu, where tanh or nothing"),
        ([*FIRST, "Relu a -> y", "Gemm y w1 b1 -> p", "Softmax p -> out"], "has the operator Softmax"),
        ([*FIRST, "Relu a -> y", *SECOND[:1], "Tanh p -> t", "Mul t five -> out"], "scales its outputs after tanh"),
        (["Gemm x w1 b1 -> out"], r"has a layer of weights \[3, 8\] for 5 features"),
        (["Div half x -> c", "Gemm c w0 b0 -> out"], "divides a constant by observations"),
        (["Mul x zero -> c", "Gemm c w0 b0 -> a", "Relu a -> y", *SECOND], "not positive and finite"),
        (
            [*FIRST, "Identity a -> a0", *(f"Add a{i} one -> a{i + 1}" for i in range(70)), "Relu a70 -> out"],
            "than 64 op",
        ),
    ],
)
def test_any_other_graph_is_refused_by_what_it_has(tmp_path, nodes, message):
    with pytest.raises(ValueError, match=message) as refusal:
        read(tmp_path / "policy.onnx", model_of(*nodes, constants=BOUNDS))
    assert "\n" not in str(refusal.value)


def test_a_mixture_of_activations_is_refused(tmp_path):
    nodes = (*FIRST, "Relu a -> y", "Gemm y square b0 -> c", "Tanh c -> d", "Gemm d w1 b1 -> out")
    model = model_of(*nodes, constants={"square": RNG.normal(size=(8, 8))})
    with pytest.raises(ValueError, match=r"mixes the activations \['relu', 'tanh'\]"):
        read(tmp_path / "policy.onnx", model)


@pytest.mark.parametrize("shape", [("batch", 5, 2), ("batch", "features"), (5,)])
def test_an_input_of_another_shape_is_refused(tmp_path, shape):
    model = model_of(*FIRST, "Relu a -> y", *SECOND, shape=shape)
    with pytest.raises(ValueError, match=r"must have one input of numbers \[N, I\], but has `x`"):
        read(tmp_path / "policy.onnx", model)


def test_a_branching_graph_of_many_operators_is_refused_before_it_is_computed(tmp_path):
    doubling = [f"{kind} a{i} c{i} -> {new}{i + 1}" for i in range(40) for kind, new in (("Add", "a"), ("Mul", "c"))]
    nodes = [*FIRST, "Relu a -> a0", "Tanh a -> c0", *doubling, "Gemm a40 w1 b1 -> out"]
    with pytest.raises(ValueError, match="more than 64 operators"):
        read(tmp_path / "policy.onnx", model_of(*nodes))


# Weights in a second file, as torch's exporter writes them


def with_weights_beside(folder, location="policy.onnx.data", length=None):
    model = model_of(*FIRST, "Elu a -> y", *SECOND)
    content = b""
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        entries = {"location": location, "offset": len(content), "length": size if length is None else length}
        content += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in entries.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
    (folder / "policy.onnx.data").write_bytes(content)
    return model


def test_weights_are_read_from_the_file_beside_a_model(tmp_path):
    network = read(tmp_path / "policy.onnx", with_weights_beside(tmp_path))
    plain = model_of(*FIRST, "Elu a -> y", *SECOND)
    np.testing.assert_allclose(expected(network), outputs_of(plain), atol=1e-5)


@pytest.mark.parametrize("location", ["../policy.onnx.data", "/etc/passwd", "a/b", ""])
def test_weights_elsewhere_are_never_read(tmp_path, location):
    with pytest.raises(ValueError, match="must name files beside it, but names"):
        read(tmp_path / "policy.onnx", with_weights_beside(tmp_path, location))


@pytest.mark.parametrize("length", [-1, 10**6, "many"])
def test_a_second_file_that_is_too_short_is_damaged(tmp_path, length):
    with pytest.raises(OSError, match="policy.onnx.* is truncated, altered or of another format"):
        read(tmp_path / "policy.onnx", with_weights_beside(tmp_path, length=length))


# Models that torch exports


class Policy(nn.Module):
    """As Isaac Lab exports it: a normaliser, then the actor."""

    def __init__(self, activation):
        super().__init__()
        self.register_buffer("mean", torch.randn(1, 5))
        self.register_buffer("std", torch.rand(1, 5) + 0.5)
        self.actor = nn.Sequential(nn.Linear(5, 8), activation, nn.Linear(8, 6), activation, nn.Linear(6, 3))

    def forward(self, observations):
        return self.actor((observations - self.mean) / (self.std + 1e-2))


@pytest.mark.parametrize("activation", [nn.ELU(), nn.GELU(), nn.SiLU(), nn.LeakyReLU()])
def test_a_model_of_torchs_exporter_is_read_with_its_normaliser(tmp_path, activation):
    policy, path = Policy(activation).eval(), tmp_path / "policy.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # the older exporter, which needs no further package
        torch.onnx.export(policy, torch.zeros(1, 5), path, opset_version=17, dynamo=False, input_names=["obs"])
    np.testing.assert_allclose(expected(MLP.from_checkpoint(path)), expected(policy), atol=1e-5)
