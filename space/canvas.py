"""Converts a visitor's drawing to an image like those the networks were trained on."""

import base64
import binascii
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image


CANVAS_SIDE = 160
"""Side of the drawing that the page sends, in pixels of one byte each."""
_BITMAP_SIDE = 32
_MAX_GREY = 16
_MNIST_SIDE, _MNIST_BOX = 28, 20
# Ink below this level is ignored, since the edges of strokes are blurred.
_LEAST_INK = 0.5


def decode_drawing(text: str) -> np.ndarray:
    """Ink from 0 to 1, `[CANVAS_SIDE, CANVAS_SIDE]`, decoded from the base64 text that the page sends.

    Raises:
        `ValueError`: If the text is not such a drawing.
    """
    try:
        ink = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError("The drawing could not be read: clear it and draw again.") from None
    if ink.size != CANVAS_SIDE**2:
        raise ValueError(f"A drawing has {CANVAS_SIDE} x {CANVAS_SIDE} pixels, but {ink.size} were sent.")
    return ink.reshape(CANVAS_SIDE, CANVAS_SIDE) / 255


def to_digit(ink: np.ndarray) -> np.ndarray | None:
    """Converts a drawing to the format of scikit-learn's digits, `[8, 8]`, 0 to 16; `None` if nothing is drawn.

    Those digits were scanned, cropped, scaled to bitmaps of 32 x 32, and counted in blocks of 4 x 4. This function
    does the same: it crops the ink, scales the longer side to 32, centres it and averages blocks.

    Parameters:
        ink (`np.ndarray`): `[H, W]`, from 0 for paper to 1.
    """
    scaled = _scaled(ink, _BITMAP_SIDE, Image.Resampling.BOX)
    if scaled is None:
        return None
    # centre
    height, width = scaled.shape
    bitmap = np.zeros((_BITMAP_SIDE, _BITMAP_SIDE))
    top, left = (_BITMAP_SIDE - height) // 2, (_BITMAP_SIDE - width) // 2
    bitmap[top : top + height, left : left + width] = scaled
    # average blocks
    blocks = bitmap.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    return np.round(_MAX_GREY * blocks)


def to_mnist(ink: np.ndarray) -> np.ndarray | None:
    """Converts a drawing to the format of MNIST, `[28, 28]`, 0 to 1; `None` if nothing is drawn.

    As MNIST's authors did, the ink is cropped, its longer side scaled to 20 pixels with grey edges, and its centre of
    mass moved to the middle of the image.

    Parameters:
        ink (`np.ndarray`): `[H, W]`, from 0 for paper to 1.
    """
    scaled = _scaled(ink, _MNIST_BOX, Image.Resampling.LANCZOS)
    if scaled is None:
        return None
    # the centre of mass in the middle, as far as the ink stays within the image
    image = np.zeros((_MNIST_SIDE, _MNIST_SIDE), dtype=np.float32)
    starts = []
    for axis, side in enumerate(scaled.shape):
        mass = scaled.sum(axis=1 - axis)
        centre = float((mass * (np.arange(side) + 0.5)).sum() / mass.sum())
        starts.append(min(max(0, round(_MNIST_SIDE / 2 - centre)), _MNIST_SIDE - side))
    (top, left), (height, width) = starts, scaled.shape
    image[top : top + height, left : left + width] = scaled
    return image


def _scaled(ink: np.ndarray, side: int, resampling: Image.Resampling) -> np.ndarray | None:
    """The ink cropped, its longer side scaled to `side`, from 0 to 1; `None` if nothing is drawn."""
    rows, columns = (np.flatnonzero((ink >= _LEAST_INK).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = side / max(cropped.shape)
    height, width = (max(1, round(length * scale)) for length in cropped.shape)
    return np.asarray(Image.fromarray((255 * cropped).astype(np.uint8)).resize((width, height), resampling)) / 255


class ImageFormat(NamedTuple):
    """How images of a task are made from a drawing.

    Parameters:
        convert (`Callable[[np.ndarray], np.ndarray | None]`): From ink `[H, W]` to an image; `None` for no ink.
        darkest (`float`): Value of full ink.
    """

    convert: Callable[[np.ndarray], np.ndarray | None]
    darkest: float


IMAGE_FORMATS = {"digits": ImageFormat(to_digit, float(_MAX_GREY)), "mnist": ImageFormat(to_mnist, 1.0)}
"""Formats of the tasks whose networks read drawings, by the task's name."""
