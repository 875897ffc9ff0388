"""What a teacher is, and teachers of Python functions and of plain MLPs.

Shape legend: N observations, I/O observation and action features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ....checkpoints import SavedNetwork
from ....networks import ACTIVATION_FUNCTIONS, declared_architecture, layer_keys


class Teacher(ABC):
    """A policy to imitate: from observations `[N, I]` to actions `[N, O]`, or `[N]` integers for discrete actions.

    Teachers are sent to worker processes, so they can be pickled.

    Attributes:
        name (`str`): What the teacher was loaded from.
        in_features (`int`, *optional*): Size of an observation, if known.
        out_features (`int`, *optional*): Size of an action, if known.
    """

    def __init__(self, name: str, in_features: int | None = None, out_features: int | None = None):
        self.name = name
        self.in_features = in_features
        self.out_features = out_features

    @abstractmethod
    def _act(self, observations_NI: np.ndarray) -> np.ndarray:
        """Actions for observations of the right shape."""

    def __call__(self, observations_NI: np.ndarray) -> np.ndarray:
        """Actions `[N, O]`.

        Raises:
            `ValueError`: If the observations do not have the teacher's size.
        """
        shape = np.shape(observations_NI)
        if len(shape) != 2 or self.in_features not in (None, shape[1]):
            wanted = "I" if self.in_features is None else self.in_features
            raise ValueError(
                f"Teacher {self.name!r} takes observations of shape [N, {wanted}], but received {list(shape)}."
            )
        return self._act(observations_NI)


class FunctionTeacher(Teacher):
    """A Python function of numpy arrays; it gets observations in their own precision."""

    def __init__(self, function: Callable[[np.ndarray], Any]):
        name = getattr(function, "__qualname__", type(function).__name__)
        sizes = (getattr(function, "in_features", None), getattr(function, "out_features", None))
        super().__init__(name, *sizes)
        self.function = function

    def _act(self, observations_NI: np.ndarray) -> np.ndarray:
        return np.asarray(self.function(observations_NI))


class ModuleTeacher(Teacher):
    """A torch module of tensors `[N, I]`, such as an [`MLP`]."""

    def __init__(self, module: nn.Module):
        architecture = declared_architecture(module)
        sizes = (getattr(architecture, "in_features", None), getattr(architecture, "out_features", None))
        super().__init__(type(module).__name__, *sizes)
        self.module = module.eval()

    def _act(self, observations_NI: np.ndarray) -> np.ndarray:
        parameter = next(self.module.parameters(), torch.empty(0))
        inputs = torch.as_tensor(observations_NI).to(parameter.device, parameter.dtype)
        with torch.inference_mode():
            return np.asarray(self.module(inputs).float().cpu())


class NetworkTeacher(Teacher):
    """The weights of a policy's MLP, run in float32.

    Parameters:
        saved ([`SavedNetwork`]): The network of a file; its statistics are folded into the first layer.
    """

    def __init__(self, saved: SavedNetwork):
        super().__init__(saved.name, saved.in_features, saved.out_features)
        weights = saved.state_dict()
        self.layers = [(weights[weight], weights[bias]) for weight, bias in layer_keys(len(saved.layers))]
        self.activation = saved.activation
        self.squash = saved.squash

    def _act(self, observations_NI: np.ndarray) -> np.ndarray:
        activate = ACTIVATION_FUNCTIONS[self.activation]
        with torch.inference_mode():
            hidden_NI = torch.as_tensor(np.asarray(observations_NI, dtype=np.float32))
            for index, (weight_OI, bias_O) in enumerate(self.layers):
                hidden_NI = F.linear(activate(hidden_NI) if index else hidden_NI, weight_OI, bias_O)
            if self.squash is not None:
                scale_O, offset_O = self.squash
                hidden_NI = torch.tanh(hidden_NI) * scale_O + offset_O
            return hidden_NI.numpy()
