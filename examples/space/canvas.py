"""From what a visitor draws to what the networks were trained to read."""

import base64
import binascii

import numpy as np
from PIL import Image


CANVAS_SIDE = 160
"""Pixels along a side of the drawing that the page sends, one byte of ink each."""
_BITMAP_SIDE = 32
_MAX_GREY = 16
# Fainter than this is no ink: the edges of strokes are blurred.
_LEAST_INK = 0.5


def decode_drawing(text: str) -> np.ndarray:
    """`[CANVAS_SIDE, CANVAS_SIDE]` of ink, 0 to 1, from the base64 text that the page sends.

    Raises:
        `ValueError`: If it is anything else.
    """
    try:
        ink = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError("The drawing could not be read: clear it and draw again.") from None
    if ink.size != CANVAS_SIDE**2:
        raise ValueError(f"A drawing has {CANVAS_SIDE} x {CANVAS_SIDE} pixels, but {ink.size} were sent.")
    return ink.reshape(CANVAS_SIDE, CANVAS_SIDE) / 255


def to_digit(ink: np.ndarray) -> np.ndarray | None:
    """A drawing as scikit-learn's digits are: `[8, 8]`, 0 to 16; `None` if nothing is drawn.

    Those were scanned, cropped, scaled to bitmaps of 32 x 32, and counted in blocks of 4 x 4. The same is done here:
    the ink is cropped, its longer side becomes 32, it is centred, and blocks are averaged.

    Parameters:
        ink (`np.ndarray`): `[H, W]`, 0 (paper) to 1.
    """
    rows, columns = (np.flatnonzero((ink >= _LEAST_INK).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = _BITMAP_SIDE / max(cropped.shape)
    height, width = (max(1, round(side * scale)) for side in cropped.shape)
    image = Image.fromarray((255 * cropped).astype(np.uint8)).resize((width, height), Image.Resampling.BOX)
    bitmap = np.zeros((_BITMAP_SIDE, _BITMAP_SIDE))
    top, left = (_BITMAP_SIDE - height) // 2, (_BITMAP_SIDE - width) // 2
    bitmap[top : top + height, left : left + width] = np.asarray(image) / 255
    blocks = bitmap.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    return np.round(_MAX_GREY * blocks)
