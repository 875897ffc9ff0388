"""Teachers from functions and files act as the policy they were made from, and what can't be read is one sentence."""

import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from teacher_files import OBSERVATIONS, Canary, check_acts_like, network_of, prefixed, stable_baselines_zip
from torch import nn

from nnit_diffusers import MLP, export_network
from nnit_diffusers.tasks.simulation.teachers import load_teacher


# Python


def double(observations):
    return 2 * observations[:, :3]


def test_a_function_gets_observations_in_their_own_precision():
    teacher = load_teacher(double)
    assert teacher(OBSERVATIONS).dtype == np.float64
    assert np.array_equal(teacher(OBSERVATIONS), double(OBSERVATIONS))
    assert (teacher.in_features, teacher.out_features) == (None, None)
    assert load_teacher(teacher) is teacher


def test_a_module_acts_on_tensors():
    network = network_of()
    check_acts_like(load_teacher(network), network)


def test_a_function_is_found_by_its_module_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_teacher_module.py").write_text(
        "import numpy as np\ndef act(o):\n    return o + 1\nclass Act: pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert np.array_equal(load_teacher("my_teacher_module:act")(OBSERVATIONS), OBSERVATIONS + 1)
    for reference in ("my_teacher_module:missing", "my_teacher_module:Act"):
        with pytest.raises(ValueError, match="must name a function of the module 'my_teacher_module'"):
            load_teacher(reference)
    with pytest.raises(ValueError, match="must name a module that can be imported, but received 'no_such:act'"):
        load_teacher("no_such:act")


@pytest.mark.parametrize("reference", [3, None, MLP])
def test_what_is_no_function_is_refused(reference):
    with pytest.raises(ValueError, match="`teacher` must be a function or the path of a file"):
        load_teacher(reference)


# files of networks


@pytest.mark.parametrize("format", ["safetensors", "torch-export", "onnx", "cleanrl", "maniskill-ppo", "lerobot"])
def test_an_exported_network_is_a_teacher(tmp_path, format):
    network = network_of()
    suffix = {"safetensors": ".safetensors", "torch-export": ".pt2", "onnx": ".onnx", "lerobot": ""}.get(format, ".pt")
    options = {"adapted_agent": True} if suffix == ".pt" else {}
    path = export_network(network, tmp_path / f"teacher{suffix}", format, **options)
    # a PPO script of other sizes may have another activation
    activation = "tanh" if suffix == ".pt" else None
    check_acts_like(load_teacher(str(path), activation), network, 1e-5)


@pytest.mark.parametrize("name", ["folder", "folder/model.safetensors"])
def test_a_saved_network_keeps_its_activation(tmp_path, name):
    network = network_of("gelu")
    network.save_pretrained(tmp_path / "folder")
    check_acts_like(load_teacher(tmp_path / name), network)


@pytest.mark.parametrize("prefix", ["", "net.", "actor_mean.", "module.actor_mean."])
def test_a_state_dict_without_an_activation_takes_the_one_given(tmp_path, prefix):
    network = network_of("silu")
    path = tmp_path / "weights.safetensors"
    save_file({prefix + key: tensor for key, tensor in network.state_dict().items()}, path)
    check_acts_like(load_teacher(path, activation="silu"), network)
    with pytest.raises(ValueError, match=r"`activation` must be given for .*one of \('relu', 'tanh'"):
        load_teacher(path)
    with pytest.raises(ValueError, match="must be one of .*'elu'.*but is 'mish'"):
        load_teacher(path, activation="mish")


def test_an_observation_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"Teacher 'MLP' takes observations of shape \[N, 5\], but received \[2, 4\]"):
        load_teacher(network_of())(np.zeros((2, 4)))


# damaged and foreign files


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".pt", ".zip", ".safetensors"])
def test_a_missing_truncated_or_empty_file_is_named(tmp_path, suffix):
    path, network = tmp_path / f"teacher{suffix}", network_of()
    with pytest.raises(OSError, match=rf"There is no file named teacher{suffix}"):
        load_teacher(path)
    formats = {".onnx": "onnx", ".pt2": "torch-export", ".safetensors": "safetensors"}
    if suffix == ".zip":
        stable_baselines_zip(path, prefixed(action_net=nn.Linear(5, 3)))
    else:
        options = {"adapted_agent": True} if suffix == ".pt" else {}
        export_network(network, path, formats.get(suffix, "cleanrl"), **options)
    content = path.read_bytes()
    for length in (0, 4, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:length])
        with pytest.raises((OSError, ValueError), match=rf"teacher{suffix}") as refusal:
            load_teacher(path)
        assert "\n" not in str(refusal.value)


def test_a_pickle_in_a_checkpoint_is_never_run(tmp_path):
    canary = tmp_path / "unpickled"
    torch.save({"actor_mean.0.weight": torch.zeros(3, 5), "args": Canary(canary)}, tmp_path / "checkpoint.pt")
    stable_baselines_zip(tmp_path / "model.zip", {"args": Canary(canary)})
    for name in ("checkpoint.pt", "model.zip"):
        with pytest.raises(ValueError, match="Python objects besides tensors.*never loaded") as refusal:
            load_teacher(tmp_path / name)
        assert "\n" not in str(refusal.value)
    assert not canary.exists()


def test_an_unknown_suffix_is_refused_with_those_that_are_read(tmp_path):
    path = tmp_path / "teacher.h5"
    path.touch()
    with pytest.raises(ValueError, match=r"ends in one of \('.onnx', '.safetensors'.*but received '.*teacher.h5'"):
        load_teacher(path)


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path):
    path = stable_baselines_zip(tmp_path / "model.zip", prefixed(action_net=nn.Linear(5, 3)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("added", b"")
        # the directory of the file, which is written when it is closed, claims more than there is
        archive.getinfo("policy.pth").file_size = 2**31
    with pytest.raises(ValueError, match="unpacked bytes of .* may be 1,073,741,824 at most"):
        load_teacher(path)
