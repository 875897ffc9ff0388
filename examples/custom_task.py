"""Trains a generator for a task of your own: define the task, register it, train.

    python examples/custom_task.py --output_dir outputs/breast_cancer

`BreastCancerTask` is a complete task for a table of data. The folder that `train` writes can be loaded, evaluated,
searched and published like any other pipeline. Once a task is registered, every script and command takes it as
`module:name`. This is the same from the command line:

    cd examples && nnit train custom_task:breast_cancer --preset small --output breast_cancer
"""

from dataclasses import dataclass

import numpy as np
import torch
import tyro
from sklearn.datasets import load_breast_cancer

from nnit_diffusers import ClassificationTask, evaluate, get_task, register_task
from nnit_diffusers.training import train


@register_task("breast_cancer")
class BreastCancerTask(ClassificationTask):
    """Scikit-learn's breast cancer table: 30 measurements of 569 cell samples, benign or malignant."""

    in_features = 30
    out_features = 2
    min_width, max_width, max_depth = 8, 32, 2
    label_smoothing = 0.1

    def load(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        inputs, labels = load_breast_cancer(return_X_y=True)
        order = np.random.RandomState(0).permutation(len(labels))
        train, validation, test = np.split(order, [341, 455])
        rows = {"train": train, "validation": validation, "test": test}[split]
        return inputs[rows], labels[rows]


@dataclass
class Arguments:
    """Trains a generator of classifiers for the breast cancer table."""

    output_dir: str = "outputs/breast_cancer"
    """Folder of the pipeline; the same command resumes an interrupted run."""
    preset: str = "small"
    """Size of the run: small, base or large."""


def main(arguments: Arguments) -> None:
    task = get_task("breast_cancer")
    pipe = train(task, arguments.output_dir, preset=arguments.preset)

    # networks of any shape, also of shapes that training never saw
    generator = torch.Generator().manual_seed(0)
    networks = pipe([[16], [27], [32, 24], [13, 21]], num_networks=4, generator=generator).networks
    print(f"{'architecture':>16}  {'accuracy':>8}  95% interval")
    for result in evaluate(networks, task):
        low, high = result.confidence_interval
        print(f"{result.architecture!s:>16}  {result.score:8.1%}  {low:.1%} to {high:.1%}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
