"""Plain torch MLPs, and batched evaluation of many of them.

Shape legend: B networks, N inputs (samples), I/O input and output features of a layer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from torch import nn

from .architecture import MLPArchitecture
from .files import find_folder, read_json_object, read_weights


ACTIVATION_MODULES: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}
ACTIVATION_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
}


class MLP(
    nn.Sequential,
    PyTorchModelHubMixin,
    library_name="nnit-diffusers",
    repo_url="https://github.com/nnit-diffusers/nnit-diffusers",
    tags=["nnit", "mlp"],
):
    """A multi-layer perceptron with the keys of a plain `nn.Sequential`: `0.weight`, `0.bias`, `2.weight`, …

    Inputs are raw, because observation statistics are folded into the first layer. [`~MLP.save_pretrained`] saves a
    network as `config.json` and `model.safetensors`, and [`~MLP.push_to_hub`] publishes it.

    Parameters:
        in_features (`int`): Size of one input.
        hidden_sizes (`Sequence[int]`): Width of every hidden layer.
        out_features (`int`): Size of one output.
        activation (`str`, defaults to `"relu"`): Activation between the linear layers.

    Raises:
        `ValueError`: If the arguments are not a valid [`MLPArchitecture`].
    """

    def __init__(self, in_features: int, hidden_sizes: Sequence[int], out_features: int, activation: str = "relu"):
        architecture = MLPArchitecture(in_features, tuple(hidden_sizes), out_features, activation)
        layers: list[nn.Module] = []
        for layer_out, layer_in in architecture.layer_shapes:
            layers += [nn.Linear(layer_in, layer_out), ACTIVATION_MODULES[activation]()]
        super().__init__(*layers[:-1])
        self.architecture = architecture

    @classmethod
    def from_architecture(
        cls, architecture: MLPArchitecture, state_dict: Mapping[str, torch.Tensor] | None = None
    ) -> MLP:
        """Creates a network from an architecture, with the given weights or torch's own initialisation.

        The tensors of `state_dict` become the parameters; they are not copied.

        Raises:
            `RuntimeError`: If `state_dict` does not match the architecture.
        """
        if state_dict is None:
            return cls(**architecture.to_dict())
        with torch.device("meta"):
            network = cls(**architecture.to_dict())
        network.load_state_dict(dict(state_dict), strict=True, assign=True)
        return network.requires_grad_(True)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> MLP:
        """Loads a network from a folder or a Hub repository (`revision=`, `cache_dir=`, `token=`, …), ready to use.

        Raises:
            `OSError`: If the network does not exist, or its weights are missing, truncated or altered.
            `ValueError`: If its configuration is invalid, or its weights do not match the configuration.
        """
        # The method of the mixin falls back to a pickle, and leaves missing weights at their random initialisation.
        folder = find_folder(pretrained_model_name_or_path, (CONFIG_NAME, SAFETENSORS_SINGLE_FILE), **kwargs)
        path = folder / CONFIG_NAME
        config = read_json_object(path)
        try:
            architecture = MLPArchitecture(**config)
        except (TypeError, ValueError) as error:  # a parameter that is missing, unknown, or out of its range
            raise ValueError(f"{str(path)!r} is not the configuration of an MLP: {error}") from error
        weights = read_weights(folder / SAFETENSORS_SINGLE_FILE, architecture.tensor_shapes)
        return cls.from_architecture(architecture, weights).eval()

    def __getitem__(self, index: slice | int) -> nn.Module:
        # A slice is not an `MLP`: it need not begin or end with a linear layer.
        return nn.Sequential(*list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)

    def weights_and_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """`(weight [O, I], bias [O])` of every linear layer, from input to output."""
        return [(layer.weight, layer.bias) for layer in self if isinstance(layer, nn.Linear)]


def layer_keys(num_layers: int) -> list[tuple[str, str]]:
    """`(weight key, bias key)` of every linear layer in the state dict of an [`MLP`]."""
    return [(f"{2 * layer}.weight", f"{2 * layer}.bias") for layer in range(num_layers)]


def stack_state_dicts(state_dicts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stacks the state dicts of B same-shaped networks; every tensor gets a leading dimension B."""
    return {key: torch.stack([state_dict[key] for state_dict in state_dicts]) for key in state_dicts[0]}


def batched_forward(
    stacked_state_dict: Mapping[str, torch.Tensor], inputs: torch.Tensor, activation: str = "relu"
) -> torch.Tensor:
    """Runs B same-shaped networks at once.

    Parameters:
        stacked_state_dict (`Mapping[str, torch.Tensor]`):
            Weights `[B, O, I]` and biases `[B, O]` under the keys of an [`MLP`]; see [`stack_state_dicts`].
        inputs (`torch.Tensor`):
            `[N, I]`, shared by all networks, or `[B, N, I]`, separate for each.
        activation (`str`, defaults to `"relu"`): Activation between the linear layers.

    Returns:
        `torch.Tensor`: `[B, N, O]`.
    """
    keys = layer_keys(len(stacked_state_dict) // 2)
    num_networks = stacked_state_dict[keys[0][0]].shape[0]
    hidden_BNI = inputs if inputs.ndim == 3 else inputs.expand(num_networks, *inputs.shape)
    for layer, (weight_key, bias_key) in enumerate(keys):
        weight_BOI, bias_BO = stacked_state_dict[weight_key], stacked_state_dict[bias_key]
        hidden_BNI = torch.baddbmm(bias_BO[:, None], hidden_BNI, weight_BOI.mT)
        if layer < len(keys) - 1:
            hidden_BNI = ACTIVATION_FUNCTIONS[activation](hidden_BNI)
    return hidden_BNI


def fold_observation_statistics(
    state_dict: Mapping[str, torch.Tensor], mean: Sequence[float], std: Sequence[float]
) -> dict[str, torch.Tensor]:
    """Converts a network of standardised inputs, `(x - mean) / std`, to raw inputs by changing its first layer.

    Parameters:
        state_dict (`Mapping[str, torch.Tensor]`): State dict of an [`MLP`], or of B stacked ones.
        mean, std (`Sequence[float]`): Statistics of every input feature, I numbers each.
    """
    weight, bias = state_dict["0.weight"], state_dict["0.bias"]
    mean_I, std_I = (torch.as_tensor(v, dtype=torch.float64, device=weight.device) for v in (mean, std))
    folded = weight.double() / std_I
    return {
        **state_dict,
        "0.weight": folded.to(weight.dtype),
        "0.bias": (bias.double() - folded @ mean_I).to(bias.dtype),
    }


def unfold_observation_statistics(
    state_dict: Mapping[str, torch.Tensor], mean: Sequence[float], std: Sequence[float]
) -> dict[str, torch.Tensor]:
    """Inverse of [`fold_observation_statistics`]."""
    weight, bias = state_dict["0.weight"], state_dict["0.bias"]
    mean_I, std_I = (torch.as_tensor(v, dtype=torch.float64, device=weight.device) for v in (mean, std))
    return {
        **state_dict,
        "0.weight": (weight.double() * std_I).to(weight.dtype),
        "0.bias": (bias.double() + weight.double() @ mean_I).to(bias.dtype),
    }
