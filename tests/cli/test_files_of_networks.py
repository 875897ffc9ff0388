"""Files that other programs wrote, in the subcommands that take a network."""

import json
from pathlib import Path

import pytest
import torch
from teacher_files import sequential
from torch import nn

from nnit_diffusers import MLP, export_network


QUICK = ("--num-inference-steps", 1)
TASK = ("--task", "tiny_tasks:tiny_data")


def assert_bad_input(result, message):
    assert result.code == 2
    assert message in result.err.splitlines()[-1]
    assert "Traceback" not in result.err
    assert result.out == ""


@pytest.fixture
def files(networks):
    """Two files of the same weights, the second without its activation, and a file of other weights."""
    network = MLP.from_pretrained(f"{networks}/network-0")
    export_network(network, "a.onnx", "onnx")
    torch.save(network.state_dict(), "b.pt")
    export_network(MLP(5, [8], 3, "tanh"), "c.safetensors", "safetensors")
    return ("a.onnx", "b.pt", "c.safetensors")


def test_files_saved_networks_and_pipelines_are_scored_side_by_side(nnit, published, networks, files):
    options = ("--arch", 9, 7, "--num-networks", 2, *QUICK)
    result = nnit("evaluate", *files, networks, published, *options, "--activation", "relu", *TASK, "--json")
    scores = {entry["name"]: entry["score"] for entry in result.json["networks"]}
    alone = nnit("evaluate", networks, "--json").json["networks"]
    assert list(scores) == [
        *files,
        *(f"{source}/network-{index}" for source in (networks, published) for index in range(2)),
    ]
    assert scores["a.onnx"] == scores["b.pt"] == scores["networks/network-0"] == alone[0]["score"]
    assert scores[f"{published}/network-1"] == alone[1]["score"]
    # --activation is for the file that does not record its own
    architectures = {entry["name"]: entry["architecture"] for entry in result.json["networks"]}
    assert [architectures[name]["activation"] for name in files] == ["relu", "relu", "tanh"]
    assert "| a.onnx " in nnit("evaluate", "a.onnx", *TASK).out


def test_a_file_has_no_task_of_its_own_but_takes_that_of_the_others(nnit, networks, files):
    assert nnit("evaluate", "a.onnx", networks, "--json").json["task"] == "tiny_data"
    assert_bad_input(nnit("evaluate", "a.onnx"), "`--task` must name a task")


def test_an_activation_is_asked_for_and_refused_where_it_has_no_effect(nnit, networks, files):
    assert_bad_input(nnit("evaluate", "b.pt", *TASK), "`activation` must be given for 'b.pt'")
    assert_bad_input(nnit("evaluate", "b.pt", *TASK, "--activation", "sine"), "must be one of ('relu'")
    for sources in (("c.safetensors",), ("a.onnx", "c.safetensors")):
        refused = nnit("evaluate", *sources, *TASK, "--activation", "gelu")
        assert_bad_input(refused, "`--activation` must be for a file that records none, but received 'gelu'")
    for options in (("--activation", "relu"), ("--ignore-clip",)):
        for command in (("evaluate", networks), ("info", networks)):
            assert_bad_input(nnit(*command, *options), "are for files of networks, but received ['networks']")
    assert_bad_input(nnit("evaluate", "a.onnx", *TASK, "--arch", 9), "must be a pipeline to use the options ['--arch'")


def test_a_clip_is_left_out_only_on_request(nnit, files):
    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = sequential(nn.ReLU, 5, 8, 3)[:-1]

        def forward(self, inputs):
            return self.network(inputs).clamp(-1, 1)

    torch.export.save(torch.export.export(Clipped(), (torch.zeros(1, 5),)), "clipped.pt2")
    assert_bad_input(nnit("evaluate", "clipped.pt2", *TASK), "--ignore-clip")
    assert nnit("evaluate", "clipped.pt2", *TASK, "--ignore-clip").code == 0


def test_a_file_is_exported_to_another_format(nnit, files):
    assert nnit("export", "b.pt", "--activation", "relu", "--format", "onnx", "--output", "again.onnx").code == 0
    again, first = (MLP.from_checkpoint(name).state_dict() for name in ("again.onnx", "a.onnx"))
    assert again.keys() == first.keys() and all(torch.equal(again[key], first[key]) for key in again)
    refused = nnit("export", "a.onnx", "--activation", "tanh", "--format", "onnx", "--output", "other.onnx")
    assert_bad_input(refused, "is recorded as 'relu', but received 'tanh'")
    assert not Path("other.onnx").exists()


def test_a_policy_of_lerobot_is_a_network_of_every_command(nnit, networks, files):
    assert nnit("export", f"{networks}/network-0", "--format", "lerobot", "--output", "policy").code == 0
    first, second = nnit("evaluate", "a.onnx", "policy", *TASK, "--json").json["networks"]
    assert first["score"] == second["score"]


def test_info_shows_the_network_in_a_file(nnit, files):
    shown = nnit("info", "c.safetensors", "--json").json
    assert (shown["hidden_sizes"], shown["activation"], shown["num_parameters"]) == ([8], "tanh", 75)
    export_network(MLP(5, [8], 3, "elu", "tanh"), "bounded.onnx", "onnx")
    assert "5 inputs, 3 outputs, elu, tanh at the output" in nnit("info", "bounded.onnx").out


def test_predict_needs_the_columns_of_a_file(nnit, files):
    Path("rows.csv").write_text("a,b\n1,2\n")
    assert_bad_input(
        nnit("predict", "a.onnx", "rows.csv"), "`--columns` must name a pipeline or networks of the table"
    )


@pytest.mark.parametrize("command", ["evaluate", "info"])
@pytest.mark.parametrize("content", [b"", b"garbage"])
@pytest.mark.parametrize("name", ["broken.onnx", "broken.pt", "broken.zip", "broken.safetensors", "broken.pt2"])
def test_a_damaged_file_is_one_line_and_never_looked_up_on_the_hub(nnit, command, name, content):
    Path(name).write_bytes(content)
    assert_bad_input(nnit(command, name, *(TASK if command == "evaluate" else ())), name)


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "notes.txt", *TASK),
        ("export", "notes.txt", "--format", "onnx", "--output", "out"),
        ("info", "notes.txt"),
        ("generate", "notes.txt", "--output", "out"),
        ("search", "notes.txt", "--task", "digits", "--output", "out"),
        ("publish", "notes.txt"),
    ],
)
def test_a_file_of_any_name_is_never_looked_up_on_the_hub(nnit, monkeypatch, command):
    Path("notes.txt").write_text(json.dumps({}))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("looked up on the Hub"))
    assert_bad_input(nnit(*command), "notes.txt")


def test_a_missing_file_is_named(nnit):
    assert_bad_input(nnit("evaluate", "missing.onnx", *TASK), "There is no file named missing.onnx")
