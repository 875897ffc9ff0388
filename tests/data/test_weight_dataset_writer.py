import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import DatasetCard
from safetensors.torch import load_file
from torch import nn

from nnit_diffusers import MLP
from nnit_diffusers.data import ShardWriter, WeightDatasetWriter, shard_path, write_index
from nnit_diffusers.data.shards import list_shards, read_rows


def network_of(seed):
    """A distinct network for each seed, of one of a few architectures."""
    torch.manual_seed(seed)
    return MLP(5, [3 + seed % 4] * (1 + seed % 3), 2)


def write(folder, stop, networks_per_shard=4):
    """Writes the networks that are missing, as a script does that may have been interrupted."""
    with WeightDatasetWriter(folder, networks_per_shard) as writer:
        for seed in range(writer.num_networks, stop):
            writer.add(network_of(seed), task="toy", origin="sgd", seed=seed)


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Writing


def test_every_network_is_in_a_shard_and_its_provenance_in_the_index(tmp_path):
    latent = [0.1, -1 / 3]
    with WeightDatasetWriter(tmp_path, networks_per_shard=2) as writer:
        writer.add(network_of(0), task="toy", region="deeper", origin="ghn", latent=latent, seed=7, step=9, score=0.25)
        writer.add(network_of(1), task="toy")
        writer.add(network_of(2), task="toy")
    assert writer.num_networks == 3
    assert sorted(files_of(tmp_path)) == [
        "README.md",
        "index.parquet",
        "shards/networks-00000.safetensors",
        "shards/networks-00001.safetensors",
    ]
    # rows of the index
    rows = pq.read_table(tmp_path / "index.parquet").to_pylist()
    assert rows[0] == {
        "shard": "networks-00000.safetensors",
        "key": "00000.",
        **network_of(0).architecture.to_dict(),
        "num_parameters": network_of(0).architecture.num_parameters,
        "task": "toy",
        "region": "deeper",
        "origin": "ghn",
        "latent": torch.tensor(latent).tolist(),
        "seed": 7,
        "step": 9,
        "score": 0.25,
    }
    unknown = {name: rows[1][name] for name in ("region", "origin", "latent", "seed", "step", "score")}
    nothing = dict.fromkeys(("latent", "seed", "step", "score"))
    assert unknown == {"region": "seen", "origin": "user", **nothing}
    # weights in the shards
    for seed, row in enumerate(rows):
        tensors = load_file(tmp_path / "shards" / row["shard"])
        for name, tensor in network_of(seed).state_dict().items():
            assert torch.equal(tensors[row["key"] + name], tensor)


def test_a_users_own_sequential_is_written_under_plain_keys(tmp_path):
    network = nn.Sequential()
    for name, layer in {"encode": nn.Linear(5, 3), "act": nn.Tanh(), "decode": nn.Linear(3, 2)}.items():
        network.add_module(name, layer)
    with WeightDatasetWriter(tmp_path) as writer:
        writer.add(network, task="toy")
    tensors = load_file(shard_path(tmp_path, 0))
    assert torch.equal(tensors["00000.2.weight"], network.decode.weight)
    assert read_rows(shard_path(tmp_path, 0))[0]["activation"] == "tanh"


def test_a_network_is_copied_when_it_is_added(tmp_path):
    network = network_of(0)
    weights = []
    with WeightDatasetWriter(tmp_path) as writer:
        for step in range(3):
            weights.append(network[0].weight.detach().clone())
            writer.add(network, task="toy", step=step)
            network[0].weight.data += 1
    tensors = load_file(shard_path(tmp_path, 0))
    for step, weight in enumerate(weights):
        assert torch.equal(tensors[f"{step:05}.0.weight"], weight)


# Resuming


@pytest.mark.parametrize("interrupted_at", [1, 4, 9])
def test_an_interrupted_writer_resumes_to_the_same_dataset(tmp_path, interrupted_at):
    write(tmp_path / "uninterrupted", 11)
    with pytest.raises(KeyboardInterrupt), WeightDatasetWriter(tmp_path / "resumed", 4) as writer:
        for seed in range(11):
            if seed == interrupted_at:
                raise KeyboardInterrupt
            writer.add(network_of(seed), task="toy", origin="sgd", seed=seed)
    assert not (tmp_path / "resumed" / "index.parquet").exists()
    assert WeightDatasetWriter(tmp_path / "resumed").num_networks == interrupted_at // 4 * 4
    write(tmp_path / "resumed", 11)
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "uninterrupted")


def test_a_killed_writer_leaves_complete_shards_to_resume_from(tmp_path):
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_weight_dataset_writer as this
this.write(Path(sys.argv[2]), 10**6)
"""
    # kill the writer after a few shards
    command = [sys.executable, "-c", code, os.path.dirname(__file__), str(tmp_path / "killed")]
    process = subprocess.Popen(command)
    while len(list_shards(tmp_path / "killed")) < 5:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    # resume, and compare with an uninterrupted writer
    stop = sum(len(read_rows(path)) for _, path in list_shards(tmp_path / "killed")) + 3
    write(tmp_path / "killed", stop)
    write(tmp_path / "uninterrupted", stop)
    expected, found = files_of(tmp_path / "uninterrupted"), files_of(tmp_path / "killed")
    assert {name: content for name, content in found.items() if ".tmp/" not in name} == expected


def test_a_finished_dataset_stays_as_it_is_when_its_script_runs_again(tmp_path):
    write(tmp_path, 6)
    before = files_of(tmp_path)
    write(tmp_path, 6)
    assert files_of(tmp_path) == before


def test_networks_are_added_to_a_finished_dataset(tmp_path):
    write(tmp_path, 6)
    write(tmp_path, 9)
    index = pq.read_table(tmp_path / "index.parquet")
    assert index["seed"].to_pylist() == list(range(9))
    assert [number for number, _ in list_shards(tmp_path)] == [0, 1, 2]


def test_temporary_files_of_a_killed_writer_are_ignored(tmp_path):
    write(tmp_path, 4)
    unfinished = tmp_path / "shards" / ".networks-00001.safetensors.1.tmp"
    unfinished.mkdir()
    (unfinished / "networks-00001.safetensors").write_bytes(b"half a shard")
    write(tmp_path, 8)
    assert [path.name for _, path in list_shards(tmp_path)] == [f"networks-0000{n}.safetensors" for n in (0, 1)]
    assert pq.read_table(tmp_path / "index.parquet")["seed"].to_pylist() == list(range(8))


def test_shards_of_several_processes_make_one_dataset_in_order(tmp_path):
    for number in (1, 0, 2):
        shard = ShardWriter(tmp_path, number)
        for seed in (2 * number, 2 * number + 1):
            shard.add(network_of(seed), task="toy", seed=seed)
        assert len(shard) == 2
        assert shard.write() == shard_path(tmp_path, number)
    write_index(tmp_path)
    assert pq.read_table(tmp_path / "index.parquet")["seed"].to_pylist() == list(range(6))


def test_the_data_card_summarises_the_dataset(tmp_path):
    with WeightDatasetWriter(tmp_path) as writer:
        writer.add(network_of(0), task="toy", origin="ghn", score=0.5)
        writer.add(network_of(1), task="toy", origin="ghn", region="deeper", score=1.0)
        writer.add(network_of(1), task="toy", origin="sgd")
    # header for the Hub
    card = DatasetCard.load(tmp_path / "README.md")
    assert card.data.size_categories == ["n<1K"]
    assert card.data.configs == [{"config_name": "default", "data_files": "index.parquet"}]
    assert "nnit" in card.data.tags
    # summary for readers
    for line in (
        "| networks | 3 |",
        "| architectures | 2 |",
        "| parameters | 26 to 54 |",
        "| regions | deeper (1), seen (2) |",
        "| origins | ghn (2), sgd (1) |",
        "| mean score | 75.0% of 2 |",
    ):
        assert line in card.text


# Several writers


def test_two_writers_in_one_folder_keep_the_networks_of_both(tmp_path):
    with WeightDatasetWriter(tmp_path, 2) as first, WeightDatasetWriter(tmp_path, 2) as second:
        for seed in range(6):
            first.add(network_of(seed), task="toy", seed=seed)
            second.add(network_of(seed), task="toy", seed=100 + seed)
    seeds = pq.read_table(tmp_path / "index.parquet")["seed"].to_pylist()
    assert sorted(seeds) == [*range(6), *range(100, 106)]
    assert [path.name for path in (tmp_path / "shards").iterdir() if path.name.startswith(".")] == []


# Errors


def test_numbers_of_numpy_and_torch_are_written_as_pythons(tmp_path):
    with WeightDatasetWriter(tmp_path) as writer:
        writer.add(
            network_of(0),
            task="toy",
            seed=np.int64(7),
            step=np.int32(9),
            score=np.float32(0.5),
            latent=torch.tensor([0.5, 1.5]),
        )
    (row,) = pq.read_table(tmp_path / "index.parquet").to_pylist()
    assert (row["seed"], row["step"], row["score"], row["latent"]) == (7, 9, 0.5, [0.5, 1.5])


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", "seven"), ("seed", 2**70), ("step", 1.5), ("score", "good"), ("latent", ["a"]), ("origin", Path("sgd"))],
)
def test_provenance_that_the_index_cannot_hold_is_refused_at_once(tmp_path, name, value):
    with WeightDatasetWriter(tmp_path) as writer:
        writer.add(network_of(0), task="toy")
        with pytest.raises(ValueError, match=f"`{name}` must "):
            writer.add(network_of(1), task="toy", **{name: value})
    assert writer.num_networks == 1


def test_an_invalid_network_is_refused_and_the_others_are_kept(tmp_path):
    broken = network_of(0)
    broken[2].bias.data[0] = torch.nan
    plain = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
    with WeightDatasetWriter(tmp_path) as writer:
        writer.add(network_of(0), task="toy")
        with pytest.raises(ValueError, match=r"finite weights, but `2\.bias` of 5-3-2 is not finite"):
            writer.add(broken, task="toy")
        with pytest.raises(ValueError, match="module 1 is BatchNorm1d"):
            writer.add(plain, task="toy")
        with pytest.raises(TypeError, match="unexpected keyword argument 'origins'"):
            writer.add(network_of(0), task="toy", origins="sgd")
        writer.add(network_of(1), task="toy")
    assert len(read_rows(shard_path(tmp_path, 0))) == writer.num_networks == 2


def test_a_dataset_without_networks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold shards of networks"), WeightDatasetWriter(tmp_path):
        pass
    with pytest.raises(ValueError, match="1 or more, but received 0"):
        WeightDatasetWriter(tmp_path, networks_per_shard=0)


def test_a_damaged_shard_is_found_before_anything_is_added(tmp_path):
    write(tmp_path, 8)
    path = shard_path(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"networks-00001\.safetensors' is not a complete shard of a weight dataset"):
        WeightDatasetWriter(tmp_path)
