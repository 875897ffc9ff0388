"""Conversion of networks to patches of weights, and back.

Shape legend: B networks, P patches (padded to the longest of the batch), p side of a patch, S slots for hidden layers,
O/I output and input features of a layer, H/W rows and columns of patches of one matrix.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.utils import PushToHubMixin
from torch import nn

from ..architecture import MLPArchitecture, check_activation
from ..hub import NNiTHubMixin
from ..limits import (
    MAX_DEPTH,
    MAX_PATCH_SIZE,
    MAX_PATCHES,
    MAX_WEIGHTS,
    check_numbers,
    check_sizes,
    check_statistics,
    check_total,
)
from ..networks import (
    ACTIVATION_MODULES,
    fold_observation_statistics,
    layer_keys,
    stack_state_dicts,
    unfold_observation_statistics,
)
from .graph_hypernetwork import ROLES, layer_role


WEIGHT_PATCH, BIAS_PATCH = 0, 1
POSITION_FIELDS = ("kind", "layer", "layers_behind", "row", "column")


@dataclass
class WeightPatchBatch:
    """Networks of any architectures as one padded batch of patches.

    Attributes:
        patches (`torch.Tensor`): `[B, P, p * p]`, standardised weights; 0 in padding.
        positions (`torch.Tensor`):
            `[B, P, 5]` integers: kind (0 weights, 1 biases), index of the linear layer, number of linear layers behind
            it, row and column of the patch.
        attention_mask (`torch.Tensor`): `[B, P]`, `True` for patches that exist.
        element_mask (`torch.Tensor`): `[B, P, p * p]`, `True` for weights that exist.
        architecture_tokens (`torch.Tensor`): `[B, S]`; see [`~MLPArchitecture.tokens`].
        architectures (`list[MLPArchitecture]`): The B architectures.
    """

    patches: torch.Tensor
    positions: torch.Tensor
    attention_mask: torch.Tensor
    element_mask: torch.Tensor
    architecture_tokens: torch.Tensor
    architectures: list[MLPArchitecture]

    def to(self, *args: Any, **kwargs: Any) -> WeightPatchBatch:
        """Moves all tensors; a dtype applies only to `patches`."""
        device = torch.empty(0, dtype=torch.uint8).to(*args, **kwargs).device
        return WeightPatchBatch(
            self.patches.to(*args, **kwargs),
            self.positions.to(device),
            self.attention_mask.to(device),
            self.element_mask.to(device),
            self.architecture_tokens.to(device),
            self.architectures,
        )


def architecture_of(network: nn.Module) -> MLPArchitecture:
    """Architecture of an `nn.Sequential` of `nn.Linear` layers and one kind of activation.

    Raises:
        `ValueError`: If it holds any other module, lacks a bias, mixes activations, or its layer sizes do not chain.
    """
    if not isinstance(network, nn.Sequential):
        raise ValueError(f"`networks` must be `nn.Sequential` MLPs, but received a {type(network).__name__}.")
    # collect layers and activations, which must alternate
    linears, activations = [], set()
    for index, module in enumerate(network):
        if index % 2 == 0 and isinstance(module, nn.Linear):
            if module.bias is None:
                raise ValueError(f"`networks` must have a bias in every layer, but layer {index} has none.")
            linears.append(module)
            continue
        names = [name for name, kind in ACTIVATION_MODULES.items() if type(module) is kind]
        if index % 2 == 0 or not names:
            expected = "nn.Linear" if index % 2 == 0 else f"an activation of {sorted(ACTIVATION_MODULES)}"
            raise ValueError(
                f"`networks` must alternate `nn.Linear` and one activation, but module {index} is "
                f"{type(module).__name__} where {expected} is expected."
            )
        activations.update(names)
    if len(linears) < 2 or len(network) % 2 == 0 or len(activations) != 1:
        raise ValueError(
            f"`networks` must be Linear, activation, …, Linear with one kind of activation, but received "
            f"{[type(module).__name__ for module in network]}."
        )
    # every layer must take the outputs of the previous one
    for previous, following in pairwise(linears):
        if previous.out_features != following.in_features:
            raise ValueError(
                f"`networks` must have layers that chain, but a layer of {previous.out_features} outputs is followed "
                f"by one of {following.in_features} inputs."
            )
    hidden_sizes = tuple(linear.out_features for linear in linears[:-1])
    return MLPArchitecture(linears[0].in_features, hidden_sizes, linears[-1].out_features, activations.pop())


class WeightPatchTokenizer(NNiTHubMixin, ConfigMixin, PushToHubMixin):
    """Cuts the weights of MLPs of any width and depth into patches, and puts them together again.

    Implements the patch tokenization of NNiT (https://huggingface.co/papers/2603.00180). A weight matrix is first
    scaled by `sqrt(fan_in / 2)`, so that patches of narrow and wide networks are alike. It is then standardised per
    role of its layer (first, hidden, last) and cut into zero-padded p x p patches. Biases have patches of their own,
    of p * p biases each, so that rows and columns of weight patches stay aligned with units. Networks take raw inputs:
    encoding removes observation statistics from the first layer, and decoding folds them in. All computations are in
    float64.

    Parameters:
        in_features, out_features (`int`): Sizes of input and output of every network.
        activation (`str`, defaults to `"relu"`): Activation of every network.
        patch_size (`int`, defaults to 8): Side p of a patch.
        max_depth (`int`, defaults to 4): Maximum number of hidden layers; number of architecture tokens.
        weight_scale, bias_scale (`list[float]`, default to ones):
            RMS of the fan-in scaled weights and of the biases, per role. See [`~WeightPatchTokenizer.fit`].
        observation_mean, observation_std (`list[float]`, *optional*): Statistics of the networks' inputs.

    Raises:
        `ValueError`: If the activation is unknown, a size is not a positive integer or exceeds what `limits.py`
            allows, a scale is not positive, or statistics are not finite.
    """

    config_name = "tokenizer_config.json"

    @register_to_config
    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "relu",
        patch_size: int = 8,
        max_depth: int = 4,
        weight_scale: list[float] | tuple[float, ...] = (1.0, 1.0, 1.0),
        bias_scale: list[float] | tuple[float, ...] = (1.0, 1.0, 1.0),
        observation_mean: list[float] | None = None,
        observation_std: list[float] | None = None,
    ):
        check_activation(activation)
        check_sizes(in_features=in_features, out_features=out_features)
        check_sizes(patch_size=patch_size, most=MAX_PATCH_SIZE)
        check_sizes(max_depth=max_depth, most=MAX_DEPTH)
        check_numbers("weight_scale", weight_scale, len(ROLES), positive=True)
        check_numbers("bias_scale", bias_scale, len(ROLES), positive=True)
        check_statistics(observation_mean, observation_std, in_features)

    def architecture(self, hidden_sizes: Sequence[int]) -> MLPArchitecture:
        """Architecture with these hidden sizes, and the inputs, outputs and activation of this tokenizer.

        Raises:
            `ValueError`: If it is not a valid architecture, or has more than `max_depth` hidden layers.
        """
        architecture = MLPArchitecture(
            self.config.in_features, tuple(hidden_sizes), self.config.out_features, self.config.activation
        )
        self.check_architecture(architecture)
        return architecture

    def check_architecture(self, architecture: MLPArchitecture) -> None:
        """Raises `ValueError` if the architecture is of another task or too deep."""
        received = (architecture.in_features, architecture.out_features, architecture.activation)
        wanted = (self.config.in_features, self.config.out_features, self.config.activation)
        if received != wanted:
            raise ValueError(
                f"`networks` must have (in_features, out_features, activation) = {wanted}, but received {received}."
            )
        architecture.tokens(self.config.max_depth)

    def num_patches(self, architecture: MLPArchitecture) -> int:
        """Number of patches of a network of this architecture."""
        p = self.config.patch_size
        return sum(-(-rows // p) * -(-columns // p) + -(-rows // p**2) for rows, columns in architecture.layer_shapes)

    def layout(self, architectures: Sequence[MLPArchitecture]) -> WeightPatchBatch:
        """Batch of networks to be generated: positions, masks and tokens are set, and patches are zero.

        Raises:
            `ValueError`: If an architecture is of another task or too deep, or the batch exceeds what `limits.py`
                allows.
        """
        # check the batch before memory is allocated
        for architecture in architectures:
            self.check_architecture(architecture)
        patch_size, max_depth = self.config.patch_size, self.config.max_depth
        num_networks, num_patches = len(architectures), max(map(self.num_patches, architectures), default=0)
        remedy = "Ask for fewer or smaller networks at a time."
        check_total("The patches of a batch", num_networks * num_patches, MAX_PATCHES, remedy)
        check_total("The weights of a batch", num_networks * num_patches * patch_size**2, MAX_WEIGHTS, remedy)
        # fill in positions and masks of every network
        layouts = [_layout(architecture, patch_size) for architecture in architectures]
        positions_BPF = torch.zeros(num_networks, num_patches, len(POSITION_FIELDS), dtype=torch.long)
        element_mask = torch.zeros(num_networks, num_patches, patch_size**2, dtype=torch.bool)
        attention_mask = torch.zeros(num_networks, num_patches, dtype=torch.bool)
        for network, (positions, elements) in enumerate(layouts):
            positions_BPF[network, : len(positions)] = positions
            element_mask[network, : len(positions)] = elements
            attention_mask[network, : len(positions)] = True
        return WeightPatchBatch(
            patches=torch.zeros(num_networks, num_patches, patch_size**2),
            positions=positions_BPF,
            attention_mask=attention_mask,
            element_mask=element_mask,
            architecture_tokens=torch.tensor([a.tokens(max_depth) for a in architectures], dtype=torch.long),
            architectures=list(architectures),
        )

    def encode(self, networks: Sequence[nn.Sequential], dtype: torch.dtype = torch.float32) -> WeightPatchBatch:
        """Encodes networks that take raw inputs as one padded batch of patches.

        Parameters:
            networks (`Sequence[nn.Sequential]`): [`MLP`]s, or your own `nn.Sequential` of `nn.Linear` and activations.
            dtype (`torch.dtype`, defaults to `torch.float32`):
                Dtype of the patches. A round trip restores every float32 weight exactly in float64, and up to its last
                one or two bits in float32.

        Raises:
            `ValueError`: If a network is not such an MLP, is of another task, or is too deep.
        """
        architectures = [architecture_of(network) for network in networks]
        state_dicts = []
        for architecture, network in zip(architectures, networks, strict=True):
            self.check_architecture(architecture)
            tensors = [tensor.detach() for tensor in network.state_dict().values()]
            keys = [key for pair in layer_keys(architecture.depth + 1) for key in pair]
            state_dicts.append(dict(zip(keys, tensors, strict=True)))
        return self.encode_state_dicts(state_dicts, architectures, standardised_inputs=False, dtype=dtype)

    def encode_state_dicts(
        self,
        state_dicts: Sequence[Mapping[str, torch.Tensor]],
        architectures: Sequence[MLPArchitecture],
        standardised_inputs: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> WeightPatchBatch:
        """Like [`~WeightPatchTokenizer.encode`], from state dicts as a [`GraphHyperNetwork`] returns them.

        Parameters:
            state_dicts (`Sequence[Mapping[str, torch.Tensor]]`): State dict of every network.
            architectures (`Sequence[MLPArchitecture]`): Architecture of every network.
            standardised_inputs (`bool`, defaults to `True`):
                Networks take standardised inputs, so no observation statistics are removed from their weights.
            dtype (`torch.dtype`, defaults to `torch.float32`): Dtype of the patches.

        Raises:
            `ValueError`: See [`~WeightPatchTokenizer.layout`].
        """
        batch = self.layout(architectures)
        batch.patches = batch.patches.to(dtype)
        # encode networks of the same architecture together
        for architecture, members in group_by_architecture(architectures).items():
            stacked = {
                key: tensor.double()
                for key, tensor in stack_state_dicts([state_dicts[member] for member in members]).items()
            }
            if self.config.observation_mean is not None and not standardised_inputs:
                stacked = unfold_observation_statistics(
                    stacked, self.config.observation_mean, self.config.observation_std
                )
            # scale and cut every layer
            patches = []
            for layer, (weight_key, bias_key) in enumerate(layer_keys(architecture.depth + 1)):
                weight_scale, bias_scale = self._scales(architecture, layer)
                patches.append(_cut(stacked[weight_key] / weight_scale, self.config.patch_size))
                patches.append(_cut_bias(stacked[bias_key] / bias_scale, self.config.patch_size))
            patches_BPE = torch.cat(patches, dim=1)
            batch.patches[members, : patches_BPE.shape[1]] = patches_BPE.to("cpu", dtype)
        return batch

    def decode(
        self, patches: torch.Tensor, architectures: Sequence[MLPArchitecture], dtype: torch.dtype = torch.float32
    ) -> list[dict[str, torch.Tensor]]:
        """Decodes patches `[B, P, p * p]` into state dicts of networks that take raw inputs, one per architecture.

        Raises:
            `ValueError`: If an architecture is of another task, or too deep.
        """
        # decode networks of the same architecture together
        state_dicts: list[dict[str, torch.Tensor]] = [{} for _ in architectures]
        for architecture, members in group_by_architecture(architectures).items():
            self.check_architecture(architecture)
            # join and scale the patches of every layer
            remaining = patches[members].double()
            stacked = {}
            keys = layer_keys(architecture.depth + 1)
            for layer, (out_features, in_features) in enumerate(architecture.layer_shapes):
                weight_scale, bias_scale = self._scales(architecture, layer)
                weight, remaining = _join(remaining, out_features, in_features, self.config.patch_size)
                bias, remaining = _join_bias(remaining, out_features, self.config.patch_size)
                stacked[keys[layer][0]], stacked[keys[layer][1]] = weight * weight_scale, bias * bias_scale
            if self.config.observation_mean is not None:
                stacked = fold_observation_statistics(
                    stacked, self.config.observation_mean, self.config.observation_std
                )
            # copy, so that each network owns its memory
            for row, member in enumerate(members):
                state_dicts[member] = {key: tensor[row].to(dtype, copy=True) for key, tensor in stacked.items()}
        return state_dicts

    def fit(self, batches: Iterable[WeightPatchBatch]) -> WeightPatchTokenizer:
        """Returns a copy of this tokenizer whose scales give the patches of these networks unit RMS.

        Parameters:
            batches (`Iterable[WeightPatchBatch]`): Networks encoded by this tokenizer.
        """
        # sum squares per kind and role
        squares, counts = torch.zeros(2, len(ROLES), dtype=torch.float64), torch.zeros(2, len(ROLES))
        for batch in batches:
            kind, layer, layers_behind, _, _ = batch.positions.unbind(-1)
            role = torch.where(layer == 0, 0, torch.where(layers_behind == 0, 2, 1))
            squares.index_put_((kind, role), batch.patches.double().square().sum(dim=-1), accumulate=True)
            counts.index_put_((kind, role), batch.element_mask.sum(dim=-1).float(), accumulate=True)
        # A role without networks, or with only zero weights, keeps its scale.
        rms = torch.where(squares > 0, squares / counts, 1.0).sqrt().tolist()
        scales = {
            name: [scale * factor for scale, factor in zip(self.config[name], rms[kind], strict=True)]
            for kind, name in ((WEIGHT_PATCH, "weight_scale"), (BIAS_PATCH, "bias_scale"))
        }
        # Not `from_config`: it resets every argument that was once left at its default.
        arguments = {name: value for name, value in self.config.items() if not name.startswith("_")}
        return type(self)(**{**arguments, **scales})

    def _scales(self, architecture: MLPArchitecture, layer: int) -> tuple[float, float]:
        """Scales of the weights and of the biases of one layer."""
        role = layer_role(layer, architecture.depth + 1)
        fan_in = architecture.layer_shapes[layer][1]
        return self.config.weight_scale[role] * (2 / fan_in) ** 0.5, self.config.bias_scale[role]

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Saves `tokenizer_config.json`. With `push_to_hub=True` also uploads it, with `kwargs` for `push_to_hub`."""
        self.save_config(save_directory, push_to_hub=push_to_hub, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> WeightPatchTokenizer:
        """Loads a tokenizer from a folder or a Hub repository (`subfolder=`, `revision=`, `cache_dir=`, …)."""
        options = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "subfolder")
        config = cls.load_config(
            pretrained_model_name_or_path, **{name: kwargs[name] for name in options if name in kwargs}
        )
        return cls.from_config(config)


@lru_cache(maxsize=4096)
def _layout(architecture: MLPArchitecture, patch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions `[P, 5]` and element mask `[P, p * p]` of one network: per layer first weights, then biases."""
    positions, elements = [], []
    shapes = architecture.layer_shapes
    for layer, (out_features, in_features) in enumerate(shapes):
        weights = _cut(torch.ones(1, out_features, in_features), patch_size)
        biases = _cut_bias(torch.ones(1, out_features), patch_size)
        columns = -(-in_features // patch_size)
        for kind, patches, per_row in ((WEIGHT_PATCH, weights, columns), (BIAS_PATCH, biases, 1)):
            index = torch.arange(patches.shape[1])
            layer_fields = torch.tensor([kind, layer, len(shapes) - 1 - layer]).expand(len(index), -1)
            positions.append(torch.cat([layer_fields, torch.stack([index // per_row, index % per_row], 1)], dim=1))
            elements.append(patches[0].bool())
    return torch.cat(positions), torch.cat(elements)


def group_by_architecture(architectures: Sequence[MLPArchitecture]) -> dict[MLPArchitecture, list[int]]:
    """Batch indices of the networks of each architecture, which can be stacked."""
    groups: dict[MLPArchitecture, list[int]] = defaultdict(list)
    for index, architecture in enumerate(architectures):
        groups[architecture].append(index)
    return groups


def _cut(matrix_BOI: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cuts matrices `[B, O, I]` into zero-padded patches `[B, H * W, p * p]`, row by row."""
    _, out_features, in_features = matrix_BOI.shape
    padding = (0, -in_features % patch_size, 0, -out_features % patch_size)
    padded = nn.functional.pad(matrix_BOI, padding)
    grid_BHpWp = padded.unflatten(2, (-1, patch_size)).unflatten(1, (-1, patch_size))
    return grid_BHpWp.transpose(2, 3).flatten(3).flatten(1, 2)


def _join(
    patches: torch.Tensor, out_features: int, in_features: int, patch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverse of [`_cut`] on the first patches; returns matrices `[B, O, I]` and the remaining patches."""
    rows, columns = -(-out_features // patch_size), -(-in_features // patch_size)
    own, remaining = patches.split([rows * columns, patches.shape[1] - rows * columns], dim=1)
    grid_BHWpp = own.unflatten(2, (patch_size, patch_size)).unflatten(1, (rows, columns))
    matrix = grid_BHWpp.transpose(2, 3).flatten(3).flatten(1, 2)
    return matrix[:, :out_features, :in_features], remaining


def _cut_bias(bias_BO: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cuts biases `[B, O]` into zero-padded patches of p * p biases each."""
    padded = nn.functional.pad(bias_BO, (0, -bias_BO.shape[1] % patch_size**2))
    return padded.unflatten(1, (-1, patch_size**2))


def _join_bias(patches: torch.Tensor, out_features: int, patch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverse of [`_cut_bias`] on the first patches; returns biases `[B, O]` and the remaining patches."""
    count = -(-out_features // patch_size**2)
    own, remaining = patches.split([count, patches.shape[1] - count], dim=1)
    return own.flatten(1)[:, :out_features], remaining
