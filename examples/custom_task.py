"""Defines a custom task: once a subclass is registered, every script and function that takes a task accepts it.

    python examples/custom_task.py

`BreastCancerTask` is a complete task for a table of data. The rest of the script trains two plain networks on it and
scores them.
"""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer

from nnit_diffusers import MLP, ClassificationTask, evaluate, get_task, register_task


@register_task("breast_cancer")
class BreastCancerTask(ClassificationTask):
    """Scikit-learn's breast cancer table: 30 measurements of 569 cell samples, benign or malignant."""

    in_features = 30
    out_features = 2
    min_width, max_width, max_depth = 8, 32, 2

    def load(self, split):
        inputs, labels = load_breast_cancer(return_X_y=True)
        order = np.random.RandomState(0).permutation(len(labels))
        train, validation, test = np.split(order, [341, 455])
        rows = {"train": train, "validation": validation, "test": test}[split]
        return inputs[rows], labels[rows]


def train(task, architecture, num_steps=300):
    """Trains with Adam on standardised inputs and returns a network that takes raw inputs."""
    torch.manual_seed(0)
    network = MLP.from_architecture(architecture)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_steps):
        inputs, labels = task.training_batch(64, generator)
        outputs = network((inputs - task.observation_mean) / task.observation_std)
        loss = task.loss(outputs[None], labels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # fold the standardisation into the first layer
    with torch.no_grad():
        network[0].weight /= task.observation_std
        network[0].bias -= network[0].weight @ task.observation_mean
    return network


def main():
    task = get_task("breast_cancer")
    architectures = [task.regions.architecture(hidden_sizes) for hidden_sizes in ([16], [32, 24])]
    networks = [train(task, architecture) for architecture in architectures]
    print(f"{'architecture':>16}  {'accuracy':>8}  95% interval")
    for result in evaluate(networks, task):
        low, high = result.confidence_interval
        print(f"{result.architecture!s:>16}  {result.score:8.1%}  {low:.1%} to {high:.1%}")


if __name__ == "__main__":
    main()
