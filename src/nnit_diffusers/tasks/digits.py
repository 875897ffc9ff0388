"""The handwritten digits of scikit-learn."""

from __future__ import annotations

import numpy as np

from .images import ImageTask
from .registry import register_task


@register_task("digits")
class DigitsTask(ImageTask):
    """Handwritten digits of scikit-learn's `load_digits`: 1,797 scans of 8 x 8 pixels, 0…16.

    The `train` split has 1,077 samples, `validation` and `test` have 360 each. All have the same share of every digit.
    """

    title = "Digits"
    description = "Handwritten digits of scikit-learn: 1,797 scans of 8 x 8 pixels in 10 classes."
    in_features = 64
    out_features = 10
    image_size = 8
    pixel_range = "0 to 16"
    max_shift = 0.5
    noise_std = 1.5
    label_smoothing = 0.1
    # One of the 16 grey levels. The corner pixels are blank in almost every training image, so their std is near 0.
    min_observation_std = 1.0

    def load(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits

        inputs, labels = load_digits(return_X_y=True)
        # Stratified splits: shuffle, sort by digit, deal out in fives. numpy never changes `RandomState`, so every
        # version gives the same splits.
        shuffled = np.random.RandomState(0).permutation(len(labels))
        dealt = shuffled[np.argsort(labels[shuffled], kind="stable")]
        position = np.arange(len(labels)) % 5
        chosen = dealt[{"train": position > 1, "validation": position == 1, "test": position == 0}[split]]
        return inputs[chosen], labels[chosen]
