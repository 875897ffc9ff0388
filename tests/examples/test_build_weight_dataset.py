import json
import os
import subprocess
import sys
from pathlib import Path

import build_weight_dataset as script
import pyarrow.parquet as pq
import pytest
import torch

from nnit_diffusers import MLP, GraphHyperNetwork, WeightDataset, evaluate
from nnit_diffusers.data import list_shards, shard_path


@pytest.fixture
def ghn_folder(digits_pipeline_folder):
    return str(digits_pipeline_folder / "ghn")


def arguments(output_dir, **kwargs):
    return script.Arguments(output_dir=str(output_dir), **{"num_networks": 11, "networks_per_shard": 4, **kwargs})


def launch(launcher, output_dir, ghn_folder):
    """Runs the script as users do, without a CPU setting in the environment; returns its stderr."""
    flags = ["--num_networks", "11", "--networks_per_shard", "4", "--score", "--output_dir", str(output_dir)]
    command = [sys.executable, "-m", *launcher, script.__file__, "--ghn_name_or_path", ghn_folder, *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    environment["MKL_CBWR"] = "COMPATIBLE"  # the same rounding with both launchers
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stderr


def data_of(folder):
    """Contents of every file of the dataset except `build.json`."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != "build.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if ".tmp/" not in path.as_posix()}


def test_two_processes_write_the_same_dataset_as_one(tmp_path, ghn_folder):
    one = ["accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    two = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for launcher, num_processes in ((one, 1), (two, 2)):
        log = launch(launcher, tmp_path / str(num_processes), ghn_folder)
        assert log.count(f"11 networks in 3 shards on {num_processes} process(es)") == 1
    assert data_of(tmp_path / "1") == data_of(tmp_path / "2")
    record = json.loads((tmp_path / "1" / "build.json").read_text())
    assert record["build"]["num_networks"] == 11
    assert record["command"].startswith(script.__file__)


def test_networks_are_ghn_samples_stored_with_latents_and_scores(tmp_path, ghn_folder, digits):
    script.main(arguments(tmp_path, ghn_name_or_path=ghn_folder, seed=3, score=True))
    dataset = WeightDataset(tmp_path)
    assert len(dataset) == 11
    ghn = GraphHyperNetwork.from_pretrained(ghn_folder)
    rows = dataset.index.to_pylist()
    for index, row in enumerate(rows):
        (network,) = ghn.generate([dataset.architectures[index]], latents=torch.tensor([row["latent"]]))
        state_dict = dataset[index].state_dict()
        torch.testing.assert_close(state_dict, network.state_dict(), atol=1e-4, rtol=1e-4)
    assert {(row["task"], row["region"], row["origin"], row["seed"]) for row in rows} == {("digits", "seen", "ghn", 3)}
    scores = [result.score for result in evaluate([dataset[index] for index in range(11)], digits, split="validation")]
    assert [row["score"] for row in rows] == scores
    assert len({tuple(row["latent"]) for row in rows}) == 11


def test_an_interrupted_build_resumes(tmp_path, ghn_folder):
    complete, killed = tmp_path / "complete", tmp_path / "killed"
    for folder in (complete, killed):
        script.main(arguments(folder, ghn_name_or_path=ghn_folder))
    (killed / "index.parquet").unlink()
    unfinished = shard_path(killed, 1).with_name(".networks-00001.safetensors.1.tmp")
    unfinished.mkdir()
    shard_path(killed, 1).rename(unfinished / shard_path(killed, 1).name)
    kept = shard_path(killed, 2).stat().st_mtime_ns
    script.main(arguments(killed, ghn_name_or_path=ghn_folder))
    assert data_of(killed) == data_of(complete)
    assert shard_path(killed, 2).stat().st_mtime_ns == kept


def test_architectures_are_drawn_from_the_requested_region(tmp_path, ghn_folder, digits):
    script.main(arguments(tmp_path, ghn_name_or_path=ghn_folder, region="held_out_widths"))
    dataset = WeightDataset(tmp_path, region="held_out_widths")
    assert {digits.regions.region_of(a.hidden_sizes) for a in dataset.architectures} == {"held_out_widths"}
    assert dataset.index["score"].null_count == 11


def test_a_users_own_networks_are_imported(tmp_path, digits):
    networks = {"b": MLP(64, [32], 10), "a/1": MLP(64, [48, 40], 10, "tanh"), "a/2": MLP(64, [25], 10)}
    for name, network in networks.items():
        network.save_pretrained(tmp_path / "mine" / name)
    script.main(arguments(tmp_path / "data", networks_dir=str(tmp_path / "mine"), networks_per_shard=2, score=True))
    assert [number for number, _ in list_shards(tmp_path / "data")] == [0, 1]
    rows = pq.read_table(tmp_path / "data" / "index.parquet").to_pylist()
    assert [(row["origin"], row["region"], row["activation"]) for row in rows] == [
        ("a/1", "held_out_combinations", "tanh"),
        ("a/2", "held_out_widths", "relu"),
        ("b", "seen", "relu"),
    ]
    (network,) = WeightDataset(tmp_path / "data")
    assert torch.equal(network[0].weight, networks["b"][0].weight)
    (result,) = evaluate([networks["b"]], digits, split="validation")
    assert rows[2]["score"] == result.score


def test_hidden_units_of_a_users_networks_are_matched_on_request(tmp_path, digits):
    first, other = MLP(64, [16, 12], 10), MLP(64, [25], 10)
    (order,) = torch.randperm(16)[None]
    shuffled = MLP.from_architecture(first.architecture, {key: t.clone() for key, t in first.state_dict().items()})
    for tensor in (shuffled[0].weight, shuffled[0].bias):
        tensor.data = tensor.data[order]
    shuffled[2].weight.data = shuffled[2].weight.data[:, order]
    for name, network in {"a": first, "b": other, "c": shuffled}.items():
        network.save_pretrained(tmp_path / "mine" / name)
    script.main(arguments(tmp_path / "data", networks_dir=str(tmp_path / "mine"), match_weights=True))
    dataset = WeightDataset(tmp_path / "data", region=None)
    for network, expected in zip(dataset, (first, other, first), strict=True):
        assert all(torch.equal(tensor, expected.state_dict()[key]) for key, tensor in network.state_dict().items())


def test_matching_is_refused_for_a_ghn(tmp_path, ghn_folder):
    with pytest.raises(ValueError, match="`match_weights` must be left out for a GHN"):
        script.main(arguments(tmp_path, ghn_name_or_path=ghn_folder, match_weights=True))


def test_networks_of_another_build_are_not_mixed_in(tmp_path, ghn_folder):
    script.main(arguments(tmp_path, ghn_name_or_path=ghn_folder))
    before = data_of(tmp_path)
    with pytest.raises(ValueError, match=r"`output_dir` must be a new folder.*'seed': 1.*networks of .*'seed': 0"):
        script.main(arguments(tmp_path, ghn_name_or_path=ghn_folder, seed=1))
    (tmp_path / "build.json").unlink()
    with pytest.raises(ValueError, match="networks of an unknown build"):
        script.main(arguments(tmp_path, ghn_name_or_path=ghn_folder))
    assert data_of(tmp_path) == before


def test_exactly_one_source_of_networks_must_be_given(tmp_path, ghn_folder):
    with pytest.raises(ValueError, match="One of `ghn_name_or_path` and `networks_dir` must be given"):
        script.main(arguments(tmp_path))
    with pytest.raises(ValueError, match="but received .*ghn' and 'mine'"):
        script.main(arguments(tmp_path, ghn_name_or_path=ghn_folder, networks_dir="mine"))
    with pytest.raises(ValueError, match="`networks_dir` must hold networks saved with `save_pretrained`"):
        script.main(arguments(tmp_path, networks_dir=str(tmp_path)))
