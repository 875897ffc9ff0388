"""Networks are read from programs of `torch.export`, whichever operators these are made of."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from teacher_files import expected
from torch import nn

from nnit_diffusers import MLP


class Policy(nn.Module):
    """Two layers with `between` them, and `before` and `after` them."""

    def __init__(self, between, before=lambda x: x, after=lambda x: x):
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)
        self.between, self.before, self.after = between, before, after

    def forward(self, observations):
        return self.after(self.last(self.between(self.first(self.before(observations)))))


class ByMatrices(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.shift = nn.Parameter(torch.randn(5, 8)), nn.Parameter(torch.randn(8))
        self.last = nn.Linear(8, 3, bias=False)

    def forward(self, observations):
        return self.last(torch.relu(observations @ self.first + self.shift))


MEAN, STD = torch.randn(5), torch.rand(5) + 0.5


def export(module, path, rows=2):
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(rows, 5),)), path)
    return path


@pytest.mark.parametrize(
    "policy",
    [
        Policy(F.leaky_relu),
        Policy(F.elu, before=lambda x: (x - MEAN) / STD),
        Policy(lambda x: x * torch.sigmoid(x)),
        Policy(lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5))),
        Policy(lambda x: x.clamp(min=0)),
        Policy(nn.Sequential(nn.Tanh(), nn.Dropout())),
        Policy(torch.tanh, after=torch.tanh),
        ByMatrices(),
    ],
)
def test_a_program_of_layers_and_activations_computes_the_same_as_an_mlp(tmp_path, policy):
    network = MLP.from_checkpoint(export(policy, tmp_path / "policy.pt2"))
    assert network.architecture.hidden_sizes == (8,)
    np.testing.assert_allclose(expected(network), expected(policy), atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Policy(F.softplus), "has the operator softplus"),
        (Policy(lambda x: F.elu(x, alpha=0.5)), "has elu after a linear layer, which is none of the activations"),
        (Policy(lambda x: F.gelu(x, approximate="tanh")), "has the operator gelu with"),
        (Policy(F.relu6), "Clip between two linear layers|has the operator relu6"),
        (Policy(torch.tanh, after=lambda x: x.clamp(-1, 1)), "clips its outputs to -1…1.*--ignore-clip"),
        (Policy(torch.tanh, after=lambda x: 2 * torch.tanh(x)), r"scales its outputs after tanh, to \[-2.0"),
        (Policy(torch.tanh, after=lambda x: x.argmax(1)), "has the operator argmax"),
        (Policy(lambda x: x + torch.relu(x)), "after a linear layer, which is none of the activations"),
    ],
)
def test_any_other_program_is_refused_by_what_it_has(tmp_path, policy, message):
    path = export(policy, tmp_path / "policy.pt2")
    with pytest.raises(ValueError, match=message):
        MLP.from_checkpoint(path)
