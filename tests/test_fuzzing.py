"""Fuzzing: any file or request works or raises a documented error, and never allocates much memory."""

import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzed import COUNTS, FUZZED, HUGE, JSON, LEAVES, SIZES, WRONG, bounded_memory, corrupted, damaged  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_ghn, tiny_pipeline, tiny_tokenizer, tiny_transformer

from nnit_diffusers import (
    MLP,
    GraphHyperNetwork,
    MLPArchitecture,
    NetworkContract,
    NNiTArchitectureScheduler,
    NNiTPipeline,
    NNiTTransformer,
    WeightDataset,
    WeightPatchTokenizer,
    export_network,
)
from nnit_diffusers.cards.meaning import meaning
from nnit_diffusers.cli.contracts import contract_lines
from nnit_diffusers.contract import EnvironmentRecord, FoldedStatistics, IOTerm, ProvenanceRecord, ScoreRecord
from nnit_diffusers.data import WeightDatasetWriter, shard_path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A pipeline, a network and a dataset; tests damage copies of them."""
    folder = tmp_path_factory.mktemp("saved")
    tiny_pipeline(ghn=True).save_pretrained(folder / "pipeline")
    networks = [MLP(5, [4 + i], 3) for i in range(3)]
    networks[0].save_pretrained(folder / "mlp")
    with WeightDatasetWriter(folder / "dataset") as writer:
        for network in networks:
            writer.add(network, task="toy")
    return folder


PUBLIC = {
    name: {key: value for key, value in component.config.items() if not key.startswith("_")}
    for name, component in (
        ("transformer", tiny_transformer()),
        ("ghn", tiny_ghn()),
        ("tokenizer", tiny_tokenizer()),
        ("architecture_scheduler", NNiTArchitectureScheduler()),
    )
}
CLASSES = {
    "transformer": (NNiTTransformer, "config.json"),
    "ghn": (GraphHyperNetwork, "config.json"),
    "tokenizer": (WeightPatchTokenizer, "tokenizer_config.json"),
    "architecture_scheduler": (NNiTArchitectureScheduler, "scheduler_config.json"),
}


@pytest.mark.parametrize("name", CLASSES)
@FUZZED
@given(data=st.data())
def test_a_damaged_configuration_of_a_component_loads_or_is_refused(saved, name, data):
    cls, file_name = CLASSES[name]
    config = data.draw(damaged(PUBLIC[name]))
    with suppress(ValueError):
        cls(**{**PUBLIC[name], **config})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(saved / "pipeline" / name, Path(temporary) / name))
        (folder / file_name).write_text(json.dumps(config))
        with suppress(OSError, ValueError):
            cls.from_pretrained(folder)


@pytest.mark.parametrize("name", CLASSES)
@FUZZED
@given(data=st.data())
def test_a_configuration_file_of_any_bytes_loads_or_is_refused(saved, name, data):
    cls, file_name = CLASSES[name]
    intact = (saved / "pipeline" / name / file_name).read_bytes()
    content = data.draw(st.one_of(JSON.map(lambda value: json.dumps(value).encode()), corrupted(intact)))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(saved / "pipeline" / name, Path(temporary) / name))
        (folder / file_name).write_bytes(content)
        with suppress(OSError, ValueError):
            cls.from_pretrained(folder)


CONTRACT = NetworkContract(
    task="toy",
    observations=(IOTerm("state", (5,), units="rad", joint_names=("a", "b")),),
    actions=(IOTerm("arm", (3,), clip=((-1, 1),) * 3, scale=(0.1,) * 3, offset=(0, 0, 0)),),
    environment=EnvironmentRecord("maniskill", "Toy-v1", env_kwargs={"a": [1]}, control_freq=20, dt=0.05),
    folded=FoldedStatistics((0,) * 5, (1,) * 5),
    score=ScoreRecord("success_rate", 0.5, (0.4, 0.6), 100, "test"),
    provenance=ProvenanceRecord("nnit/toy", seed=1, index=0),
    task_spec={"kind": "table"},
).to_dict()


@FUZZED
@given(data=st.data())
def test_any_contract_is_read_and_written_again_or_refused(saved, data):
    part = data.draw(st.sampled_from([None, "environment", "folded", "score", "provenance"]))
    term = data.draw(st.sampled_from(["observations", "actions"]))
    content = data.draw(st.one_of(JSON, damaged(CONTRACT)))
    if part is not None:
        content = {**CONTRACT, part: data.draw(damaged(CONTRACT[part]))}
    elif data.draw(st.booleans()):
        content = {**CONTRACT, term: [data.draw(damaged(CONTRACT[term][0]))]}
    with suppress(ValueError):
        contract = NetworkContract.from_dict(content)
        # what was accepted is plain JSON, and the same when it is read again
        text = json.dumps(contract.to_dict(), allow_nan=False)
        assert NetworkContract.from_dict(json.loads(text)) == contract
        contract.clip(torch.zeros(1, sum(term.size for term in contract.actions)))
        contract_lines(contract)
        meaning(contract)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(saved / "mlp", Path(temporary) / "mlp"))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "nnit_contract": content}))
        with suppress(OSError, ValueError):
            MLP.from_pretrained(folder)


@FUZZED
@given(data=st.data())
def test_damaged_weights_load_or_are_refused(saved, data):
    kind = data.draw(st.sampled_from(["mlp", "ghn", "dataset"]))
    source = saved / "pipeline" / "ghn" if kind == "ghn" else saved / kind
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(source, Path(temporary) / kind))
        weights = next(folder.rglob("*.safetensors"))
        weights.write_bytes(data.draw(corrupted(weights.read_bytes())))
        with suppress(OSError, ValueError):
            if kind == "ghn":
                GraphHyperNetwork.from_pretrained(folder)
            elif kind == "mlp":
                MLP.from_pretrained(folder)
            else:
                list(WeightDataset(folder))
        with suppress(OSError, ValueError):
            if kind == "dataset":
                WeightDatasetWriter(folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Contents of files of a network that are read as graphs."""
    folder = tmp_path_factory.mktemp("exported")
    formats = {".onnx": "onnx", ".pt2": "torch-export"}
    return {
        suffix: export_network(MLP(5, [4], 3, "silu", "tanh"), folder / f"network{suffix}", format).read_bytes()
        for suffix, format in formats.items()
    }


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@FUZZED
@given(data=st.data())
def test_a_damaged_file_of_another_program_is_a_network_or_is_refused_in_one_line(exported, suffix, data):
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / f"network{suffix}"
        path.write_bytes(data.draw(corrupted(exported[suffix])))
        try:
            network = MLP.from_checkpoint(path, ignore_clip=True)
        except (OSError, ValueError) as error:
            assert "\n" not in str(error)
        else:
            assert network(torch.zeros(2, network.architecture.in_features)).shape[0] == 2


@FUZZED
@given(data=st.data())
def test_a_pipeline_with_any_damaged_file_works_or_is_refused(saved, data):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(saved / "pipeline", Path(temporary) / "pipeline"))
        path = data.draw(st.sampled_from(sorted(folder.rglob("*.json"))))
        path.write_text(json.dumps(data.draw(damaged(json.loads(path.read_text())))))
        with suppress(OSError, ValueError), np.errstate(all="ignore"):
            pipeline = NNiTPipeline.from_pretrained(folder)
            pipeline.set_progress_bar_config(disable=True)
            pipeline(arch=[5, None], num_inference_steps=1, max_parameters=300)


@FUZZED
@given(data=st.data())
def test_a_configuration_of_a_network_that_does_not_fit_its_weights_is_refused(saved, data):
    config = json.loads((saved / "mlp" / "config.json").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(saved / "mlp", Path(temporary) / "mlp"))
        (folder / "config.json").write_text(json.dumps(data.draw(st.one_of(JSON, damaged(config)))))
        with suppress(OSError, ValueError):
            assert MLP.from_pretrained(folder).architecture.in_features == 5


@FUZZED
@given(
    in_features=st.one_of(SIZES, LEAVES),
    hidden_sizes=st.one_of(st.lists(st.one_of(SIZES, LEAVES), max_size=4), LEAVES, st.just([1] * 10**5)),
    out_features=st.one_of(SIZES, LEAVES),
    activation=st.one_of(st.just("relu"), LEAVES),
)
def test_any_arguments_give_a_valid_architecture_or_are_refused(in_features, hidden_sizes, out_features, activation):
    with suppress(ValueError):
        architecture = MLPArchitecture(in_features, hidden_sizes, out_features, activation)
        assert architecture.num_parameters <= 2**30
        assert architecture == MLPArchitecture.from_tokens(
            architecture.tokens(architecture.depth), in_features, out_features, activation
        )
        tokenizer = WeightPatchTokenizer(in_features, out_features, activation)
        assert tokenizer.num_patches(architecture) == len(tokenizer.layout([architecture]).positions[0])


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@FUZZED
@given(
    arch=st.one_of(
        JSON,
        st.lists(st.one_of(SIZES, st.none(), LEAVES), max_size=5),
        st.lists(st.lists(st.one_of(SIZES, st.none()), max_size=5), max_size=3),
    ),
    num_networks=st.one_of(st.integers(1, 3), COUNTS),
    num_inference_steps=st.one_of(st.integers(1, 2), COUNTS),
    min_parameters=st.one_of(st.none(), st.integers(1, 600), LEAVES),
    max_parameters=st.one_of(st.none(), st.integers(1, 600), LEAVES),
    temperature=st.one_of(st.just(1.0), st.floats(), LEAVES),
    output_type=st.one_of(st.just("mlp"), st.just("pt"), LEAVES),
)
def test_any_request_gives_networks_or_is_refused(pipeline, **request):
    with suppress(ValueError):
        output = pipeline(**request)
        assert len(output.networks) == len(output.architectures)
        for architecture in output.architectures:
            assert architecture.num_parameters <= (request["max_parameters"] or 10**9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP(10**9, [8], 3), "`in_features` must hold integers of at most 65536"),
        (
            lambda: MLPArchitecture(8, (2**16, 2**16), 3),
            "parameters of 8-65536-65536-3 may be 1,073,741,824 at most",
        ),
        (lambda: MLPArchitecture(8, (8,) * 10**4, 3), "`hidden_sizes` may have 256 hidden layers at most"),
        (lambda: NNiTTransformer(8, 3, max_width=10**9), "`max_width` must be an integer of at most 65536"),
        (lambda: NNiTTransformer(8, 3, num_layers=10**9), "`num_layers` must be an integer of at most 256"),
        (lambda: NNiTTransformer(8, 3, max_depth=10**9), "`max_depth` must be an integer of at most 256"),
        (lambda: NNiTTransformer(8, 3, attention_head_dim=2**14), "The parameters of `NNiTTransformer` may be"),
        (lambda: NNiTTransformer(8, 3, mlp_ratio=float("nan")), "`mlp_ratio` must be a number of"),
        (lambda: GraphHyperNetwork(8, 3, max_width=2**15), "The parameters of `GraphHyperNetwork` may be"),
        (lambda: GraphHyperNetwork(8, 3, num_convolutions=10**9), "`num_convolutions` must be an integer of at most"),
        (lambda: WeightPatchTokenizer(8, 3, patch_size=10**9), "`patch_size` must be an integer of at most 128"),
        (lambda: WeightPatchTokenizer(8, 3, max_depth=10**9), "`max_depth` must be an integer of at most 256"),
        (lambda: NNiTArchitectureScheduler(num_train_timesteps=10**9), "`num_train_timesteps` must be an integer of"),
        (
            lambda: WeightPatchTokenizer(8, 3, patch_size=1).layout([MLPArchitecture(8, (2**14, 2**14), 3)]),
            "The patches of a batch may be 16,777,216 at most.*Ask for fewer or smaller networks",
        ),
    ],
)
def test_sizes_beyond_any_memory_are_refused_by_name_before_memory_is_allocated(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("config", [{}, {"num_layers": 40, "max_width": 500}, {"patch_size": 16, "mlp_ratio": 2.0}])
def test_the_size_in_a_refusal_is_the_size_the_model_would_have(monkeypatch, config):
    for cls, arguments in ((NNiTTransformer, config), (GraphHyperNetwork, {"max_width": config.get("max_width", 64)})):
        with torch.device("meta"):
            actual = cls(64, 10, **arguments).num_parameters()
        monkeypatch.setattr(f"{cls.__module__}.MAX_PARAMETERS", 1)
        with pytest.raises(ValueError, match="may be 1 at most, but would be") as caught:
            cls(64, 10, **arguments)
        announced = int(str(caught.value).split()[-1].rstrip(".").replace(",", ""))
        assert announced == pytest.approx(actual, rel=0.1)
        monkeypatch.undo()


def test_shards_outside_the_folder_of_their_index_are_refused(saved, tmp_path):
    tiny_transformer().save_pretrained(tmp_path, max_shard_size="20KB")
    index_path = next(tmp_path.glob("*.index.json"))
    index = json.loads(index_path.read_text())
    assert len(set(index["weight_map"].values())) > 1
    NNiTTransformer.from_pretrained(tmp_path)
    for name in ("../secret.safetensors", "/etc/passwd", "weights.bin", 7, None):
        index_path.write_text(json.dumps({**index, "weight_map": {"proj_out.weight": name}}))
        with pytest.raises(ValueError, match="name files like 'diffusion_pytorch_model-00001-of-00002.safetensors'"):
            NNiTTransformer.from_pretrained(tmp_path)


def test_pickles_are_never_loaded(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "saved")
    for weights in (tmp_path / "saved").rglob("*.safetensors"):
        torch.save({"would": "run"}, weights.with_suffix(".bin"))
        weights.unlink()
    torch.save({}, tmp_path / "saved" / "mlp" / "pytorch_model.bin")
    for load, folder in ((NNiTTransformer, "pipeline/transformer"), (NNiTPipeline, "pipeline"), (MLP, "mlp")):
        with pytest.raises(FileNotFoundError, match=r"there is .*\.bin, and pickles are never loaded"):
            load.from_pretrained(tmp_path / "saved" / folder)
    for load, folder in ((NNiTTransformer, "pipeline/transformer"), (NNiTPipeline, "pipeline")):
        with pytest.raises(ValueError, match="`use_safetensors` must be True: pickles can run code"):
            load.from_pretrained(saved / folder, use_safetensors=False)
    with pytest.raises(ValueError, match="`use_safetensors` must be True"):
        tiny_transformer().load_lora_adapter(tmp_path, use_safetensors=False)
    assert shard_path(saved / "dataset", 0).exists()


def test_components_that_do_not_fit_together_are_refused():
    components = tiny_pipeline(ghn=True).components
    with pytest.raises(ValueError, match="`transformer` must have the `patch_size` of the `tokenizer`, 2, but has 4"):
        NNiTPipeline(**{**components, "tokenizer": tiny_tokenizer(patch_size=2)})
    with pytest.raises(ValueError, match="`ghn` must have the `activation` of the .*, 'tanh', but has 'relu'"):
        NNiTPipeline(**{**components, "tokenizer": tiny_tokenizer(activation="tanh")})
