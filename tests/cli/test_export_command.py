"""`nnit export`: every format and option, and what it refuses."""

import json
from pathlib import Path
from typing import get_args, get_type_hints

import onnxruntime
import pytest
import torch
from command_results import assert_bad_input, files_below

from nnit_diffusers import EXPORT_FORMATS, MLP
from nnit_diffusers.cli.export import Export
from nnit_diffusers.contract import CONTRACT_KEY
from nnit_diffusers.export import footprint


# A value for every option of a format: on the command line, and for the exporter.
OPTIONS = {
    "adapted_agent": (["--adapted-agent"], True),
    "batch_size": (["--batch-size", 3], 3),
    "clip_actions": (["--clip-low", -1, "--clip-high", 1, 2, 3], (-1, (1, 2, 3))),
    "prefix": (["--prefix", "walk"], "walk"),
    "quantize": (["--quantize", "int8"], "int8"),
}


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_every_format_is_exported(nnit, networks, format):
    if format == "sb3":
        pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed: `make peers`")
    names = EXPORT_FORMATS[format].options
    options = [option for name in names for option in OPTIONS[name][0]]
    result = nnit("export", f"{networks}/network-0", "--format", format, "--output", "out/file", "--json", *options)
    network = MLP.from_pretrained(f"{networks}/network-0")
    content = EXPORT_FORMATS[format].encode(network, **{name: OPTIONS[name][1] for name in names})
    written = files_below("out/file") if Path("out/file").is_dir() else Path("out/file").read_bytes()
    assert result.code == 0 and written == content
    sizes = map(len, content.values()) if isinstance(content, dict) else [len(content)]
    assert result.json["num_bytes"] == sum(sizes)


def test_an_export_replaces_only_folders_of_an_export(nnit, networks):
    export = ("export", f"{networks}/network-0", "--format", "lerobot", "--output")
    assert_bad_input(nnit(*export, networks, "--force"), "holds no policy_preprocessor.json: --force replaces only")
    assert nnit(*export, "policy").code == 0
    assert_bad_input(nnit(*export, "policy"), "'policy', which exists: add --force")
    assert nnit(*export, "policy", "--force").code == 0


def test_an_exported_network_computes_the_same_as_the_saved_one(nnit, networks):
    assert nnit("export", f"{networks}/network-1", "--format", "onnx", "--output", "network.onnx").code == 0
    inputs = torch.randn(3, 5)
    (outputs,) = onnxruntime.InferenceSession("network.onnx").run(None, {"observations": inputs.numpy()})
    torch.testing.assert_close(torch.from_numpy(outputs), MLP.from_pretrained(f"{networks}/network-1")(inputs))


def test_an_impossible_export_is_refused_with_a_one_line_error(nnit, published, networks):
    network, onnx = f"{networks}/network-0", ("--format", "onnx", "--output", "file")
    assert_bad_input(
        nnit("export", networks, *onnx), "'networks', which holds 2: name one, such as 'networks/network-0'"
    )
    assert_bad_input(nnit("export", published, *onnx), "but is a pipeline")
    assert_bad_input(nnit("export", network, *onnx, "--adapted-agent"), "`options` of format 'onnx' must be of (")
    assert_bad_input(nnit("export", network, "--format", "cleanrl", "--output", "file"), "must be a tanh network")
    assert not Path("file").exists()
    Path("file").write_text("old")
    assert_bad_input(nnit("export", network, *onnx), "'file', which exists: add --force")
    assert Path("file").read_text() == "old"
    assert nnit("export", network, *onnx, "--force").code == 0


def test_a_header_is_written_with_what_it_costs(nnit, networks):
    options = ("export", f"{networks}/network-0", "--format", "c", "--quantize", "int8", "--output", "policy.h")
    costs = footprint(MLP.from_pretrained(f"{networks}/network-0").architecture, "int8")
    assert nnit(*options, "--json").json["footprint"] == costs.to_dict()
    shown = nnit(*options, "--force").out
    assert f"flash: {costs.weight_bytes} bytes of weights, code not counted; RAM: {costs.buffer_bytes} bytes" in shown
    assert f"{costs.multiply_accumulates} multiply-accumulates" in shown


def test_the_settings_of_an_rsl_rl_runner_are_shown(nnit, networks):
    options = ("export", f"{networks}/network-0", "--format", "rsl-rl", "--output", "model.pt")
    assert "need hidden_dims=[9, 7], activation='relu', obs_normalization=False" in nnit(*options).out
    assert nnit(*options, "--force", "--json").json["settings"]["hidden_dims"] == [9, 7]


def test_bounds_are_complete_and_fit_the_format(nnit, networks):
    export = ("export", f"{networks}/network-0", "--output", "file", "--format")
    assert_bad_input(nnit(*export, "c", "--clip-low", -1), "`--clip-high` must be given with `--clip-low`")
    assert_bad_input(nnit(*export, "c", "--clip-high", 1), "`--clip-low` must be given with `--clip-high`")
    assert_bad_input(nnit(*export, "c", "--clip-actions"), "`clip_actions` must be the bounds")
    assert_bad_input(nnit(*export, "c", "--clip-low", 2, "--clip-high", 1), "`low` of `clip_actions` must be at most")
    assert_bad_input(nnit(*export, "rsl-rl", "--clip-low", 0, "--clip-high", 1), "`options` of format 'rsl-rl'")
    assert_bad_input(nnit(*export, "c", "--prefix", "A"), "`prefix` must be 1 to 16")
    assert not Path("file").exists()


def test_a_contract_beside_an_export_is_not_replaced_without_force(nnit, networks):
    export = ("export", f"{networks}/network-0", "--format", "c", "--output", "policy.h")
    beside = Path("policy.h.contract.json")
    beside.write_text("{}")
    assert_bad_input(nnit(*export), "'policy.h.contract.json', which exists: add --force")
    assert not Path("policy.h").exists()
    # replaced by the contract of the network
    contract = MLP.from_pretrained(f"{networks}/network-0").contract.to_dict()
    assert nnit(*export, "--force", "--json").json["contract"] == str(beside)
    assert json.loads(beside.read_text()) == json.loads(json.dumps(contract))
    # a network without one leaves none that is of another
    config = Path(networks, "network-0", "config.json")
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != CONTRACT_KEY}))
    assert nnit(*export, "--force", "--json").json["contract"] is None and not beside.exists()


def test_formats_of_the_export_command_are_those_of_the_package():
    assert get_args(get_type_hints(Export)["format"]) == tuple(EXPORT_FORMATS)
