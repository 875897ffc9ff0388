"""Programs in ONNX and of `torch.export` act as they were exported, and nothing else in them is run."""

import pickle
import re
import zipfile
from io import BytesIO

import numpy as np
import onnx
import pytest
import torch
from teacher_files import OBSERVATIONS, Canary, check_acts_like, network_of

from nnit_diffusers import export_network
from nnit_diffusers.tasks.simulation.teachers import load_teacher


def onnx_file(path, shape=("batch", 5), outputs=("float",), num_inputs=1):
    """A model that adds 1, or rounds for an output of integers."""
    helper, types = onnx.helper, onnx.TensorProto
    names = [f"observations{index or ''}" for index in range(num_inputs)]
    nodes = [helper.make_node("Constant", [], ["one"], value_float=1.0)]
    ends = []
    for index, kind in enumerate(outputs):
        nodes.append(helper.make_node("Add", [names[0], "one"], [f"sum{index}"]))
        if kind == "int":
            nodes.append(helper.make_node("ArgMax", [f"sum{index}"], [f"out{index}"], axis=1, keepdims=0))
            ends.append(helper.make_tensor_value_info(f"out{index}", types.INT64, [shape[0]]))
        elif kind == "string":
            nodes.append(helper.make_node("Cast", [f"sum{index}"], [f"out{index}"], to=types.STRING))
            ends.append(helper.make_tensor_value_info(f"out{index}", types.STRING, shape))
        else:
            nodes.append(helper.make_node("Identity", [f"sum{index}"], [f"out{index}"]))
            ends.append(helper.make_tensor_value_info(f"out{index}", types.FLOAT, shape))
    starts = [helper.make_tensor_value_info(name, types.FLOAT, shape) for name in names]
    graph = helper.make_graph(nodes, "policy", starts, ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(("shape", "in_features"), [(("batch", 5), 5), ((1, 5), 5), (("batch", "features"), None)])
def test_an_onnx_model_takes_any_number_of_rows_or_one(tmp_path, shape, in_features):
    teacher = load_teacher(onnx_file(tmp_path / "policy.onnx", shape, ("float", "float")))
    for each in (teacher, pickle.loads(pickle.dumps(teacher))):
        np.testing.assert_allclose(each(OBSERVATIONS), OBSERVATIONS + 1, atol=1e-6)
    assert (teacher.in_features, teacher.out_features) == (in_features, in_features)


def test_an_onnx_model_may_choose_discrete_actions(tmp_path):
    teacher = load_teacher(onnx_file(tmp_path / "policy.onnx", outputs=("int", "float")))
    assert np.array_equal(teacher(OBSERVATIONS), OBSERVATIONS.argmax(axis=1))
    assert teacher.out_features is None


def test_an_onnx_model_of_another_form_is_refused_by_the_names_it_has(tmp_path):
    path = tmp_path / "policy.onnx"
    with pytest.raises(
        ValueError, match=r"one input of numbers \[N, I\], but has `observations` tensor\(float\).*`obser"
    ):
        load_teacher(onnx_file(path, num_inputs=2))
    with pytest.raises(ValueError, match=r"but has `observations` tensor\(float\) \['batch', 3, 8, 8\]"):
        load_teacher(onnx_file(path, ("batch", 3, 8, 8)))
    with pytest.raises(ValueError, match="any number of observations, or one, but takes 4"):
        load_teacher(onnx_file(path, (4, 5)))
    with pytest.raises(ValueError, match=r"outputs are `out0` tensor\(string\)"):
        load_teacher(onnx_file(path, outputs=("string",)))


def export(module, path, rows=2, **options):
    torch.export.save(torch.export.export(module, (torch.zeros(rows, 5),), **options), path)
    return path


def test_a_program_of_torch_export_may_take_one_row_but_not_two(tmp_path):
    network = network_of()
    check_acts_like(load_teacher(export(network, tmp_path / "one.pt2", 1)), network)
    with pytest.raises(ValueError, match="any number of observations, or one, but takes 2"):
        load_teacher(export(network, tmp_path / "two.pt2"))


def edited(path, change):
    """The same zip with the content of every entry changed by `change(name, content)`."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    new = path.with_name("edited.pt2")
    with zipfile.ZipFile(new, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, change(name, content))
    return new


def test_a_program_with_anything_that_could_run_code_is_refused(tmp_path):
    path = export_network(network_of(), tmp_path / "teacher.pt2", "torch-export")
    canary = tmp_path / "unpickled"
    content = BytesIO()
    torch.save(Canary(canary), content)

    def samples(name, old):
        return content.getvalue() if name.endswith("sample_inputs/model.pt") else old

    def expression(name, old):
        return re.sub(rb"Symbol\('s\d+'", b"__import__('os').system('true'", old)

    def operator(name, old):
        return old.replace(b"torch.ops.aten.tanh.default", b"torch.hub.load")

    def placeholder(name, old):
        return old.replace(b'"name":"input"', b'"name":"input=open(1)"').replace(b'"input"}', b'"input=open(1)"}')

    def pickled(name, old):
        return old.replace(b'"use_pickle": false', b'"use_pickle": true')

    for change in (samples, expression, operator, placeholder, pickled):
        with pytest.raises(ValueError, match="must hold tensors and operators of torch only"):
            load_teacher(edited(path, change))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("teacher/data/aotinductor/model/model.so", b"")
    with pytest.raises(ValueError, match="holds an entry 'teacher/data/aotinductor/model/model.so'"):
        load_teacher(path)
    assert not canary.exists()
