import os
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nnit_diffusers import MLP, ArchitectureRegions, GraphHyperNetwork, WeightPatchTokenizer
from nnit_diffusers.data import GHNWeightStream, WeightDataset, WeightDatasetWriter, shard_path


REGIONS = ArchitectureRegions(5, 3, min_width=4, max_width=12)
TOKENIZER = WeightPatchTokenizer(
    in_features=5,
    out_features=3,
    patch_size=4,
    max_depth=3,
    observation_mean=[0.0, 1.0, -2.0, 3.0, 0.5],
    observation_std=[1.0, 2.0, 0.1, 1.0, 1.0],
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def encoded(source, num_networks, generator):
    return TOKENIZER.encode_state_dicts(*source.networks(num_networks, generator))


def networks_of(region, num_networks, seed=0):
    torch.manual_seed(seed)
    return [MLP.from_architecture(a) for a in REGIONS.sample(region, num_networks, generator(seed))]


@pytest.fixture(scope="module")
def networks():
    return networks_of("seen", 40) + networks_of("held_out_combinations", 3)


@pytest.fixture(scope="module")
def original(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    with WeightDatasetWriter(folder, networks_per_shard=16) as writer:
        for seed, network in enumerate(networks):
            region = REGIONS.region_of(network.architecture.hidden_sizes)
            writer.add(network, task="toy", region=region, seed=seed)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A copy of the dataset, for tests that damage it."""
    return shutil.copytree(original, tmp_path / "dataset")


def rewrite_index(folder, column, values):
    path = folder / "index.parquet"
    index = pq.read_table(path)
    position = index.schema.get_field_index(column)
    array = pa.array(values, type=index.schema.field(column).type)
    pq.write_table(index.set_column(position, column, array), path)


# Reading


def test_networks_are_read_as_they_were_written(original, networks):
    dataset = WeightDataset(original, region=None)
    assert len(dataset) == len(networks) == 43
    for index in (0, 17, 42, -1):
        assert dataset[index].architecture == networks[index].architecture
        for key, tensor in networks[index].state_dict().items():
            assert torch.equal(dataset[index].state_dict()[key], tensor)
    with pytest.raises(IndexError):
        dataset[43]


def test_a_region_holds_only_its_networks(original):
    dataset = WeightDataset(original)
    assert len(dataset) == 40
    assert dataset.index["seed"].to_pylist() == list(range(40))
    held_out = WeightDataset(original, region="held_out_combinations")
    assert held_out.index["seed"].to_pylist() == [40, 41, 42]
    drawn = {str(a) for _ in range(5) for a in encoded(held_out, 8, generator()).architectures}
    assert drawn <= {str(architecture) for architecture in held_out.architectures}


def test_a_region_without_networks_is_refused(original):
    with pytest.raises(ValueError, match=r"None or one of \['seen', 'held_out_combinations'\].*received 'wider'"):
        WeightDataset(original, region="wider")


# Batches


def test_a_batch_holds_encoded_networks_of_the_dataset(original):
    batch = encoded(WeightDataset(original), 6, generator())
    originals = {}
    for network in networks_of("seen", 40):
        alone = TOKENIZER.encode([network])
        originals[str(alone.patches.sum().item())] = alone
    assert len(batch.architectures) == len(batch.patches) == 6
    # every row of the batch is a network of the dataset
    for index, architecture in enumerate(batch.architectures):
        count = int(batch.attention_mask[index].sum())
        (same,) = [o for o in originals.values() if torch.equal(o.patches[0], batch.patches[index, :count])]
        assert same.architectures == [architecture]
        assert torch.equal(same.positions[0], batch.positions[index, :count])


def test_batches_depend_only_on_the_generator(original):
    dataset, again = WeightDataset(original), WeightDataset(str(original))
    encoded(dataset, 5, generator(9))
    assert torch.equal(encoded(dataset, 8, generator(1)).patches, encoded(again, 8, generator(1)).patches)
    source = generator(1)
    first, second = encoded(dataset, 8, source), encoded(dataset, 8, source)
    assert first.patches.shape != second.patches.shape or not torch.equal(first.patches, second.patches)


def test_networks_of_a_batch_are_of_similar_size_and_equally_likely(original):
    dataset, source = WeightDataset(original, patch_size=TOKENIZER.config.patch_size), generator()
    counts, filled = dict.fromkeys(dataset.architectures, 0), 0.0
    for _ in range(400):
        indices = encoded(dataset, 4, source)
        filled += indices.attention_mask.float().mean().item() / 400
        for architecture in indices.architectures:
            counts[architecture] += 1
    for architecture, count in counts.items():
        assert count == pytest.approx(1600 * dataset.architectures.count(architecture) / 40, abs=45)
    # batches of a plain draw have more padding
    sizes = torch.tensor([TOKENIZER.num_patches(architecture) for architecture in dataset.architectures]).float()
    plain = sizes[torch.randint(40, (400, 4), generator=source)]
    assert filled > 0.85 > (plain.mean(dim=1) / plain.amax(dim=1)).mean()


def test_a_batch_may_be_larger_than_the_dataset(original):
    dataset = WeightDataset(original, region="held_out_combinations")
    assert len(encoded(dataset, 20, generator()).architectures) == 20


def test_the_dataset_and_the_stream_have_the_same_interface(original):
    torch.manual_seed(0)
    ghn = GraphHyperNetwork(5, 3, max_width=12, latent_dim=4, node_dim=8, map_channels=4, num_templates=2)
    for source in (WeightDataset(original), GHNWeightStream(ghn, REGIONS)):
        batch, again = encoded(source, 7, generator(3)), encoded(source, 7, generator(3))
        assert len(batch.architectures) == 7
        assert batch.patches.shape == batch.element_mask.shape
        assert torch.equal(batch.patches, again.patches)
        assert {REGIONS.region_of(architecture.hidden_sizes) for architecture in batch.architectures} == {"seen"}


def test_a_dataset_loads_from_the_cache_of_the_hub(original, networks, tmp_path):
    repository, commit = tmp_path / "hub" / "datasets--someone--weights", "0" * 40
    shutil.copytree(original, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    code = """
from nnit_diffusers import WeightDataset
dataset = WeightDataset("someone/weights")
print(len(dataset), dataset[7][0].weight.sum().item())
"""
    # a process of its own, which reads the cache without a network
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["40", str(networks[7][0].weight.sum().item())]


# Damaged datasets


def test_a_missing_or_unfinished_dataset_is_named(tmp_path, folder):
    with pytest.raises(OSError, match="index.parquet' does not exist: not a weight dataset, or an unfinished one"):
        WeightDataset(tmp_path)
    with pytest.raises((OSError, ValueError)):
        WeightDataset(tmp_path / "nothing")


def test_a_missing_shard_is_named(folder):
    shard_path(folder, 1).unlink()
    with pytest.raises(OSError, match=r"index.parquet' names '.*networks-00001\.safetensors', which does not exist"):
        WeightDataset(folder)


@pytest.mark.parametrize("kept", [0, 5, 2000, -1])
def test_a_truncated_shard_is_named(folder, kept):
    path = shard_path(folder, 0)
    path.write_bytes(path.read_bytes()[:kept])
    dataset = WeightDataset(folder)
    with pytest.raises(ValueError, match=r"networks-00000\.safetensors' is not a complete shard of a weight dataset"):
        dataset[0]
    assert dataset[20].architecture == dataset.architectures[20]


def test_a_shard_without_a_network_of_the_index_is_named(folder):
    path = shard_path(folder, 0)
    tensors = load_file(path)
    del tensors["00003.0.bias"]
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"networks-00000\.safetensors'.*00003\.0\.bias"):
        WeightDataset(folder)[3]


def test_weights_of_another_shape_than_in_the_index_are_refused(folder):
    path = shard_path(folder, 0)
    tensors = load_file(path)
    tensors["00003.0.weight"] = torch.zeros(2, 5)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"`00003\.0\.weight` of .*networks-00000.*but is F32 of shape \(2, 5\)"):
        WeightDataset(folder)[3]


@pytest.mark.parametrize(
    "name", ["../../secret.safetensors", "/etc/passwd", "..", "sub/networks-00000.safetensors", None]
)
def test_an_index_that_names_a_file_elsewhere_is_refused(folder, name):
    rewrite_index(folder, "shard", [name] * 43)
    with pytest.raises(ValueError, match=r"`shard` of '.*index.parquet' must be a name like.*but received"):
        WeightDataset(folder)


@pytest.mark.parametrize("hidden_sizes", [[], [0], [-4], None])
def test_an_index_that_names_an_invalid_architecture_is_refused(folder, hidden_sizes):
    rewrite_index(folder, "hidden_sizes", [hidden_sizes] * 43)
    with pytest.raises(ValueError, match=r"index.parquet' names an invalid architecture: `hidden_sizes`"):
        WeightDataset(folder)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_weights_that_are_not_floating_point_are_refused(folder, dtype):
    path = shard_path(folder, 0)
    tensors = load_file(path)
    tensors["00003.0.weight"] = tensors["00003.0.weight"].to(dtype)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"`00003\.0\.weight` of .*must be floating point"):
        WeightDataset(folder)[3]


def test_an_index_of_other_types_or_without_keys_is_refused(folder):
    path = folder / "index.parquet"
    index = pq.read_table(path)
    position = index.schema.get_field_index("hidden_sizes")
    pq.write_table(index.set_column(position, "hidden_sizes", pa.array(["48"] * 43)), path)
    with pytest.raises(ValueError, match=r"index.parquet' is not the index of a weight dataset"):
        WeightDataset(folder)
    pq.write_table(index, path)
    rewrite_index(folder, "key", [None] * 43)
    with pytest.raises(ValueError, match="`key` of .*index.parquet' must be set in every row"):
        WeightDataset(folder)


@pytest.mark.parametrize("metadata", ["", "{", "[" * 10**5, "7", "[7]"])
def test_a_shard_with_damaged_metadata_is_named(folder, metadata):
    save_file({"a": torch.zeros(1)}, shard_path(folder, 0), metadata={"networks": metadata})
    with pytest.raises(ValueError, match=r"networks-00000\.safetensors' is not a shard of a weight dataset"):
        WeightDatasetWriter(folder)


def test_a_damaged_index_is_named(folder):
    path = folder / "index.parquet"
    complete = path.read_bytes()
    pq.write_table(pq.read_table(path).drop(["activation"]), path)
    with pytest.raises(ValueError, match=r"index.parquet' is not the index of a weight dataset: .*activation"):
        WeightDataset(folder)
    for content in (complete[:100], b"", b"not parquet"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"index.parquet' is not the index of a weight dataset"):
            WeightDataset(folder)


def test_the_index_is_readable_by_datasets(original):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_parquet(str(original / "index.parquet"), cache_dir=str(original.parent / "cache"))
    assert len(rows) == 43
    assert rows[5]["seed"] == 5


def test_weights_that_are_not_finite_are_refused_with_their_shard_and_network(folder):
    path = shard_path(folder, 1)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as shard:
        metadata = shard.metadata()
    tensors["00003.0.weight"][0, 0] = torch.nan
    save_file(tensors, path, metadata)
    dataset = WeightDataset(folder)
    assert len(dataset.state_dicts(range(16))) == 16
    with pytest.raises(ValueError, match=r"Network 19 of the dataset .* not finite, in `00003\.0\.weight` of .*00001"):
        dataset.state_dicts(range(len(dataset)))


def test_a_stream_leaves_the_ghn_as_it_is():
    ghn = GraphHyperNetwork(5, 3, max_width=12, node_dim=8, map_channels=4, num_templates=2, latent_dim=2).train()
    stream = GHNWeightStream(ghn, REGIONS)
    before = encoded(stream, 4, generator()).patches
    assert ghn.training and all(parameter.requires_grad for parameter in ghn.parameters())
    # training it on does not change the stream
    for parameter in ghn.parameters():
        parameter.data += 1
    assert torch.equal(encoded(stream, 4, generator()).patches, before)
