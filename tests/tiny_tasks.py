"""Tasks for networks of the tiny pipeline; tests of the command line import them by `--task tiny_tasks:...`."""

import torch
from tiny import IN_FEATURES, MAX_DEPTH, MAX_WIDTH, MIN_WIDTH, OUT_FEATURES

from nnit_diffusers import ClassificationTask, Task, register_task
from nnit_diffusers.tasks import DATA_SPLITS, RegressionTask, Score


@register_task("tiny_data")
class TinyDataTask(ClassificationTask):
    """Which of the first three numbers is the largest."""

    in_features, out_features = IN_FEATURES, OUT_FEATURES
    min_width, max_width, max_depth = MIN_WIDTH, MAX_WIDTH, MAX_DEPTH

    def load(self, split):
        inputs = torch.randn(120, IN_FEATURES, generator=torch.Generator().manual_seed(DATA_SPLITS.index(split)))
        return inputs, inputs[:, :OUT_FEATURES].argmax(dim=1)


@register_task("tiny_demand")
class TinyDemandTask(Task):
    """Every episode demands a number of parameters, and networks with at least as many succeed.

    98% of the episodes demand 40 to 140, the others 200 to 300, so the success rate of a network is known.

    Attributes:
        calls (`list[tuple]`): Split, number of episodes and seed of every call of `score`.
        interrupt_at (`int`, *optional*): Number of calls before a `KeyboardInterrupt`.
    """

    in_features, out_features = IN_FEATURES, OUT_FEATURES
    min_width, max_width, max_depth = MIN_WIDTH, MAX_WIDTH, MAX_DEPTH
    observation_mean, observation_std = torch.zeros(IN_FEATURES), torch.ones(IN_FEATURES)

    def __init__(self, interrupt_at=None):
        self.calls, self.interrupt_at = [], interrupt_at

    def training_batch(self, batch_size, generator):
        raise NotImplementedError("Nothing is trained on this task.")

    def loss(self, outputs, targets):
        raise NotImplementedError("Nothing is trained on this task.")

    def score(self, networks, *, split="validation", num_episodes=None, seed=0, num_workers=None):
        if len(self.calls) == self.interrupt_at:
            raise KeyboardInterrupt
        num_episodes = num_episodes or 400
        self.calls.append((split, num_episodes, seed))
        generator = torch.Generator().manual_seed(1000 * DATA_SPLITS.index(split) + seed)
        uniform, kind = torch.rand(2, num_episodes, generator=generator)
        demands = 40 + 100 * uniform + 160 * (kind > 0.98)
        counts = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
        return [Score(int((demands <= count).sum()), num_episodes, {"num_parameters": count}) for count in counts]


@register_task("tiny_numbers")
class TinyNumbersTask(RegressionTask):
    """A sum of inputs, in thousands."""

    in_features, out_features = IN_FEATURES, 1
    min_width, max_width, max_depth = MIN_WIDTH, MAX_WIDTH, MAX_DEPTH

    @staticmethod
    def true_function(inputs):
        return 5000 + 1000 * (inputs @ torch.tensor([1.0, -1.0, 0.5, 1.5, 0.0][:IN_FEATURES]))[:, None]

    def load(self, split):
        inputs = torch.randn(200, IN_FEATURES, generator=torch.Generator().manual_seed(DATA_SPLITS.index(split)))
        return inputs, self.true_function(inputs)
