import gzip
import re
import sys

import numpy as np
import pytest
import torch

from nnit_diffusers.tasks import get_task
from nnit_diffusers.tasks.mnist import read_idx


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def write_mnist(data_dir, num_train=5100, num_test=30, compress=False):
    """Writes random images into the four files of MNIST; returns them by file name."""
    raw = data_dir / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.RandomState(0)
    arrays = {}
    for prefix, number in (("train", num_train), ("t10k", num_test)):
        arrays[f"{prefix}-images-idx3-ubyte"] = random.randint(256, size=(number, 28, 28))
        arrays[f"{prefix}-labels-idx1-ubyte"] = random.randint(10, size=number)
    for name, array in arrays.items():
        content = idx_bytes(array)
        path = raw / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(content, compresslevel=1) if compress else content)
    return arrays


@pytest.mark.parametrize("compress", [False, True])
def test_splits_are_read_from_data_dir_with_the_last_5000_images_for_validation(tmp_path, compress):
    arrays = write_mnist(tmp_path, compress=compress)
    task = get_task("mnist", data_dir=tmp_path)
    images, labels = (arrays[f"train-{kind}-ubyte"] for kind in ("images-idx3", "labels-idx1"))
    for split, rows in (("train", slice(0, 100)), ("validation", slice(100, 5100))):
        inputs, split_labels = task.data(split)
        np.testing.assert_allclose(inputs.numpy(), images[rows].reshape(-1, 784) / 255, rtol=1e-6)
        assert split_labels.tolist() == labels[rows].tolist()
    inputs, test_labels = task.data("test")
    assert inputs.shape == (30, 784)
    assert test_labels.tolist() == arrays["t10k-labels-idx1-ubyte"].tolist()


def test_training_batches_are_augmented_images(tmp_path):
    write_mnist(tmp_path, num_train=5010)
    task = get_task("mnist", data_dir=tmp_path)
    inputs, labels = task.training_batch(16, torch.Generator().manual_seed(0))
    again, _ = task.training_batch(16, torch.Generator().manual_seed(0))
    assert torch.equal(inputs, again)
    assert inputs.shape == (16, 784)
    assert task.loss(torch.zeros(2, 16, 10), labels).tolist() == pytest.approx([np.log(10)] * 2)


def test_a_training_set_too_small_for_the_validation_split_is_refused(tmp_path):
    write_mnist(tmp_path, num_train=5000)
    with pytest.raises(ValueError, match="more than 5000 images, but received 5000"):
        get_task("mnist", data_dir=tmp_path).data("train")


def test_without_files_and_torchvision_the_error_names_the_package_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=re.escape("pip install nnit-diffusers[mnist]")) as raised:
        get_task("mnist", data_dir=tmp_path).data("test")
    assert str(tmp_path) in str(raised.value)


def test_arrays_of_any_number_of_dimensions_are_read(tmp_path):
    for array in (np.arange(6), np.arange(24).reshape(2, 3, 4), np.zeros((0, 5))):
        (tmp_path / "array").write_bytes(idx_bytes(array))
        read = read_idx(tmp_path / "array")
        assert read.shape == array.shape
        assert (read == array).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "start with the bytes 00 00 08"),
        (b"\x1f\x8b\x08\x00", "start with the bytes 00 00 08 of IDX, but received '1f 8b 08'"),
        (bytes([0, 0, 0x0D, 1]) + idx_bytes(np.arange(6))[4:], "received '00 00 0d'"),
        (idx_bytes(np.arange(6))[:-1], r"its shape \(6,\), but received 5"),
        (idx_bytes(np.arange(6)) + b"\x00", r"its shape \(6,\), but received 7"),
        (idx_bytes(np.zeros((2, 3)))[:7], r"its shape \(\), but"),
    ],
)
def test_incomplete_idx_files_are_refused(tmp_path, content, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        read_idx(path)
    assert str(path) in str(raised.value)
