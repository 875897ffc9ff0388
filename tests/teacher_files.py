"""Policies, files of them, and a check that a teacher acts like one."""

import json
import pickle
import zipfile
from io import BytesIO

import cloudpickle
import numpy as np
import torch
from torch import nn

from nnit_diffusers import MLP


OBSERVATIONS = np.random.default_rng(0).normal(size=(7, 5))


def network_of(activation="tanh", hidden_sizes=(9, 7)):
    return MLP(5, hidden_sizes, 3, activation).eval().requires_grad_(False)


def expected(module, observations=OBSERVATIONS):
    with torch.no_grad():
        return module(torch.tensor(observations, dtype=torch.float32)).numpy()


def sequential(activation, *widths):
    modules = []
    for index in range(len(widths) - 1):
        modules += [nn.Linear(widths[index], widths[index + 1]), activation()]
    return nn.Sequential(*modules)


def check_acts_like(teacher, module, tolerance=1e-6):
    """Also after it was sent to another process, and for one observation."""
    sent = pickle.loads(pickle.dumps(teacher))
    for each in (teacher, sent, cloudpickle.loads(cloudpickle.dumps(sent))):
        np.testing.assert_allclose(each(OBSERVATIONS), expected(module), atol=tolerance)
        np.testing.assert_allclose(each(OBSERVATIONS[:1]), expected(module, OBSERVATIONS[:1]), atol=tolerance)
    assert (teacher.in_features, teacher.out_features) == (5, 3)


def prefixed(**modules):
    return {f"{name}.{key}": tensor for name, module in modules.items() for key, tensor in module.state_dict().items()}


def stable_baselines_zip(path, state_dict, data=None):
    """As `BaseAlgorithm.save` writes it."""
    content = BytesIO()
    torch.save(state_dict, content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(data or {}))
        archive.writestr("pytorch_variables.pth", b"")
        archive.writestr("policy.pth", content.getvalue())
        archive.writestr("policy.optimizer.pth", b"")
        archive.writestr("_stable_baselines3_version", "2.7.0")
    return path


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")
