"""scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np

from .images import ImageTask
from .registry import register_task


@register_task("digits")
class DigitsTask(ImageTask):
    """1,797 scans of handwritten digits, 8 x 8 pixels of 0…16, as scikit-learn's `load_digits` has them.

    1,077 are for training, 360 for validation and 360 for test, each with every digit in the same proportion.
    """

    in_features = 64
    out_features = 10
    image_size = 8
    max_shift = 0.5
    noise_std = 1.5
    label_smoothing = 0.1
    # One of 16 grey levels: the corner pixels are blank in almost every training image.
    min_observation_std = 1.0

    def load(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits

        inputs, labels = load_digits(return_X_y=True)
        # `RandomState` is frozen by numpy: these splits are the same for every version. Shuffled, sorted by digit and
        # dealt out in fives, every split gets its share of every digit.
        shuffled = np.random.RandomState(0).permutation(len(labels))
        dealt = shuffled[np.argsort(labels[shuffled], kind="stable")]
        position = np.arange(len(labels)) % 5
        chosen = dealt[{"train": position > 1, "validation": position == 1, "test": position == 0}[split]]
        return inputs[chosen], labels[chosen]
