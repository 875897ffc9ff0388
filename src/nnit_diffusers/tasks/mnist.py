"""MNIST, read from the IDX files that torchvision downloads."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from .images import ImageTask
from .registry import register_task


# The third byte of an IDX file is the type of its values; MNIST holds unsigned bytes.
_UNSIGNED_BYTE = 0x08
_NUM_VALIDATION = 5000


def read_idx(path: str | Path) -> np.ndarray:
    """Reads an IDX file of unsigned bytes, gzipped if its name ends in `.gz`.

    Raises:
        `ValueError`: If the file does not start with the header of such a file, or its size does not fit the header.
    """
    path = Path(path)
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise ValueError(f"{path} must start with the bytes 00 00 08 of IDX, but received {content[:3].hex(' ')!r}.")

    # the header: number of dimensions, then the size of each
    num_dimensions = content[3]
    header, values = content[4 : 4 + 4 * num_dimensions], content[4 + 4 * num_dimensions :]
    shape = tuple(np.frombuffer(header[: len(header) // 4 * 4], dtype=">u4").tolist())
    if len(shape) != num_dimensions or len(values) != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} must hold one byte for each value of its shape {shape}, but received {len(values)}.")
    return np.frombuffer(bytearray(values), dtype=np.uint8).reshape(shape)


@register_task("mnist")
class MNISTTask(ImageTask):
    """MNIST: 28 x 28 pixels of 0…1, as torchvision's `ToTensor` returns them.

    The last 5,000 images of MNIST's training set are the `validation` split. Only the download needs torchvision.

    Parameters:
        data_dir (`str` or `Path`, defaults to `"data"`):
            Folder with the four IDX files in `MNIST/raw`, gzipped or not; missing files are downloaded.
    """

    title = "MNIST"
    description = "Handwritten digits of MNIST: 70,000 images of 28 x 28 pixels in 10 classes."
    in_features = 784
    out_features = 10
    max_width = 128
    image_size = 28
    pixel_range = "0 to 1"
    max_shift = 2.0
    min_observation_std = 1 / 16

    def __init__(self, data_dir: str | Path = "data"):
        self.data_dir = Path(data_dir)

    def load(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = self._read("t10k" if split == "test" else "train")
        if split != "test":
            if len(labels) <= _NUM_VALIDATION:
                raise ValueError(
                    f"The training set in {self.data_dir} must hold more than {_NUM_VALIDATION} images, but received "
                    f"{len(labels)}."
                )
            kept = slice(-_NUM_VALIDATION, None) if split == "validation" else slice(-_NUM_VALIDATION)
            images, labels = images[kept], labels[kept]
        return images.reshape(len(images), -1).astype(np.float32) / 255, labels

    def _read(self, prefix: str) -> tuple[np.ndarray, np.ndarray]:
        names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        if not all(self._find(name) for name in names):
            self._download()
        images, labels = (read_idx(self._find(name) or self.data_dir / name) for name in names)
        return images, labels

    def _find(self, name: str) -> Path | None:
        candidates = (self.data_dir / "MNIST" / "raw" / f"{name}{suffix}" for suffix in ("", ".gz"))
        return next((path for path in candidates if path.is_file()), None)

    def _download(self) -> None:
        try:
            from torchvision.datasets import MNIST
        except ImportError as error:
            raise ImportError(
                f"{self.data_dir / 'MNIST' / 'raw'} does not hold MNIST, and downloading it needs torchvision: run "
                "`pip install nnit-diffusers[mnist]`, or pass a `data_dir` that holds MNIST."
            ) from error
        MNIST(self.data_dir, download=True)
