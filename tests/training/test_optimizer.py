import pytest
import torch
from tiny import tiny_transformer
from torch import nn

from nnit_diffusers.training.optimizer import Muon, orthogonalize


class OneBlock(nn.Module):
    """A small model with parameters for Muon and for AdamW."""

    def __init__(self, in_features=6, hidden_features=10):
        super().__init__()
        self.embed = nn.Linear(4, in_features)
        self.transformer_blocks = nn.ModuleList([nn.Linear(in_features, hidden_features)])

    @property
    def matrix(self):
        return self.transformer_blocks[0].weight

    def forward(self, inputs):
        return self.transformer_blocks[0](self.embed(inputs).tanh())


def losses_of(model, optimizer, steps, num_outputs=10):
    """Losses of a small regression; every step has different data."""
    losses = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(32, 4, generator=generator)
        loss = (model(inputs) - inputs.sum(dim=1, keepdim=True).expand(-1, num_outputs)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# Orthogonalisation


@pytest.mark.parametrize("shape", [(40, 40), (24, 60), (60, 24)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_orthogonalizing_brings_singular_values_near_one_and_keeps_singular_vectors(shape, scale):
    left, _ = torch.linalg.qr(torch.randn(shape[0], 24))
    right, _ = torch.linalg.qr(torch.randn(shape[1], 24))
    matrix = scale * left @ torch.diag(torch.linspace(0.1, 1, 24)) @ right.mT
    rotated = left.mT @ orthogonalize(matrix) @ right
    assert rotated.diagonal().min() > 0.65 and rotated.diagonal().max() < 1.25
    torch.testing.assert_close(rotated, torch.diag(rotated.diagonal()), atol=1e-3, rtol=0)
    torch.testing.assert_close(left @ rotated @ right.mT, orthogonalize(matrix), atol=1e-3, rtol=0)


def test_orthogonalizing_in_half_precision_is_close_and_keeps_the_dtype_of_the_matrix():
    matrix = torch.randn(24, 40)
    rounded = orthogonalize(matrix, dtype=torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - orthogonalize(matrix)).norm() / rounded.norm() < 0.06


def test_a_zero_matrix_stays_zero():
    assert torch.equal(orthogonalize(torch.zeros(3, 5)), torch.zeros(3, 5))


# Muon


def test_muon_updates_matrices_of_blocks_and_adamw_the_rest():
    transformer = tiny_transformer()
    names = {parameter: name for name, parameter in transformer.named_parameters()}
    matrices, others = Muon(transformer, lr=1e-3).param_groups
    assert matrices["use_muon"] and not others["use_muon"]
    assert {names[parameter].split(".", 2)[2] for parameter in matrices["params"]} == {
        "attn.to_q.weight",
        "attn.to_k.weight",
        "attn.to_v.weight",
        "attn.to_out.0.weight",
        "ff.net.0.proj.weight",
        "ff.net.2.weight",
    }
    assert len(matrices["params"]) + len(others["params"]) == len(names)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 0.02), (torch.bfloat16, 0.06)])
def test_matrices_are_updated_as_by_the_muon_of_torch(dtype, rounding):
    # Muon of torch always rounds to bfloat16, and more often than ours in bfloat16.
    ours, theirs = OneBlock(), OneBlock()
    theirs.load_state_dict(ours.state_dict())
    start = ours.matrix.detach().clone()
    optimizer = Muon(ours, lr=0.0, muon_lr=0.05, muon_dtype=dtype, momentum=0.9, weight_decay=0.1)
    reference = torch.optim.Muon([theirs.matrix], lr=0.05, momentum=0.9, weight_decay=0.1)
    for step in range(5):
        gradient = torch.randn(ours.matrix.shape, generator=torch.Generator().manual_seed(step))
        ours.matrix.grad, theirs.matrix.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
    difference = (ours.matrix - theirs.matrix).norm() / (ours.matrix - start).norm()
    assert difference < rounding


def test_other_parameters_are_updated_as_by_the_adamw_of_torch():
    ours, theirs = OneBlock(), OneBlock()
    theirs.load_state_dict(ours.state_dict())
    options = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    optimizer = Muon(ours, muon_lr=0.0, **options)
    reference = torch.optim.AdamW([p for p in theirs.parameters() if p is not theirs.matrix], **options)
    assert losses_of(ours, optimizer, range(20)) == pytest.approx(losses_of(theirs, reference, range(20)), rel=1e-4)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, theirs.get_parameter(name), rtol=1e-4, atol=1e-6)


def test_a_small_regression_is_learned():
    model = OneBlock()
    losses = losses_of(model, Muon(model, lr=0.02, muon_lr=0.05), range(100))
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])


def test_a_parameter_without_a_gradient_is_not_updated():
    model = OneBlock()
    optimizer = Muon(model, lr=0.1, weight_decay=0.5)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model.embed.bias.grad = torch.ones_like(model.embed.bias)
    optimizer.step()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {"embed.bias"}


def test_a_loaded_state_continues_like_the_saved_one(tmp_path):
    model = OneBlock()
    optimizer = Muon(model, lr=0.02)
    losses_of(model, optimizer, range(3))
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    uninterrupted = losses_of(model, optimizer, range(3, 6))

    resumed = OneBlock()
    resumed_optimizer = Muon(resumed, lr=0.5)
    state = torch.load(tmp_path / "state.pt")
    resumed.load_state_dict(state["model"])
    resumed_optimizer.load_state_dict(state["optimizer"])
    assert losses_of(resumed, resumed_optimizer, range(3, 6)) == uninterrupted


def test_a_schedule_scales_both_learning_rates():
    optimizer = Muon(OneBlock(), lr=0.01, muon_lr=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.005]


def test_a_model_without_blocks_uses_only_adamw():
    (group,) = Muon(nn.Linear(3, 2), lr=0.01).param_groups
    assert not group["use_muon"]


def test_a_closure_is_evaluated_and_its_loss_returned():
    model = OneBlock()
    optimizer = Muon(model, lr=0.01)
    before = model.matrix.detach().clone()

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(2, 4)).square().mean()
        loss.backward()
        return loss

    assert optimizer.step(closure) > 0
    assert not torch.equal(model.matrix, before)
