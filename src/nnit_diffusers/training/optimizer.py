"""Muon, the optimizer of the transformer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


# Newton-Schulz polynomial of degree 5 with the steepest slope at zero (https://kellerjordan.github.io/posts/muon).
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: torch.Tensor, num_iterations: int = 5, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Approximates the nearest semi-orthogonal matrix: all singular values become about 0.7 to 1.2.

    Parameters:
        matrix (`torch.Tensor`): `[rows, columns]`.
        num_iterations (`int`, defaults to 5): Number of Newton-Schulz iterations.
        dtype (`torch.dtype`, defaults to `torch.float32`): Dtype of the iterations; the result has that of `matrix`.

    Returns:
        `torch.Tensor`: `[rows, columns]`.
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if is_tall else matrix
    x = (x / (x.norm() + 1e-7)).to(dtype)
    for _ in range(num_iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if is_tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon, with orthogonalised momentum, for weight matrices of transformer blocks; AdamW for other parameters.

    `torch.optim.Muon` always orthogonalises in bfloat16, which is slow on a CPU without bfloat16 instructions. It also
    needs a second optimizer for parameters that are not matrices.

    Parameters:
        model (`nn.Module`): Muon updates its matrices in `transformer_blocks`.
        lr (`float`): Learning rate of AdamW.
        muon_lr (`float`, defaults to 0.02): Learning rate of Muon.
        muon_dtype (`torch.dtype`, defaults to `torch.float32`): Dtype of the orthogonalisation.
        momentum (`float`, defaults to 0.95): Nesterov momentum of Muon.
        betas (`tuple[float, float]`, defaults to `(0.9, 0.98)`): Decay rates of AdamW's moment estimates.
        eps (`float`, defaults to 1e-8): Term added to AdamW's denominator.
        weight_decay (`float`, defaults to 0.0): Decoupled weight decay of all parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        muon_lr: float = 0.02,
        muon_dtype: torch.dtype = torch.float32,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        # matrices of blocks are updated by Muon, other parameters by AdamW
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            is_matrix = "transformer_blocks" in name and parameter.ndim == 2 and "scale_shift_table" not in name
            (matrices if is_matrix else others).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": matrices, "lr": muon_lr, "use_muon": True},
            {"params": others, "lr": lr, "use_muon": False},
        ]
        # `lr` too: a polynomial schedule reads it there
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], defaults)
        self.muon_dtype = muon_dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates all parameters that have a gradient; returns the loss of `closure`, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    # decoupled weight decay, then the update
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update = self._matrix_update if group["use_muon"] else self._adam_update
                    parameter.add_(update(parameter, parameter.grad, group), alpha=-group["lr"])
        return loss

    def _matrix_update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        """Orthogonalised Nesterov momentum, scaled by `sqrt(max(1, rows / columns))`."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        rows, columns = parameter.shape
        direction = orthogonalize(gradient.lerp(momentum, group["momentum"]), dtype=self.muon_dtype)
        return direction * max(1, rows / columns) ** 0.5

    def _adam_update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        """First moment divided by the root of the second moment, both corrected for bias."""
        state = self.state[parameter]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
        state["step"] += 1
        (beta1, beta2), step = group["betas"], state["step"]
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].lerp_(gradient.square(), 1 - beta2)
        return (state["mean"] / (1 - beta1**step)) / ((state["square"] / (1 - beta2**step)).sqrt() + group["eps"])
