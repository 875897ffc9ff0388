"""Conversion of networks to patches of weights, and back.

Shape legend: B networks, P patches (padded to the longest of the batch), p side of a patch, S slots for hidden layers,
O/I output and input features of a layer, H/W rows and columns of patches of one matrix.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.utils import PushToHubMixin
from torch import nn

from ..architecture import MLPArchitecture, check_activation, check_no_output_activation
from ..folding import (
    fold_observation_statistics,
    fold_output_statistics,
    unfold_observation_statistics,
    unfold_output_statistics,
)
from ..loading.hub import NNiTHubMixin
from ..loading.limits import (
    MAX_DEPTH,
    MAX_GENERATED_DEPTH,
    MAX_PATCH_SIZE,
    MAX_PATCHES,
    MAX_WEIGHTS,
    check_numbers,
    check_sizes,
    check_statistics,
    check_total,
)
from ..network_batch import stack_state_dicts
from ..networks import architecture_of, layer_keys
from .graph_hypernetwork import ROLES, layer_role
from .patches import (
    BIAS_PATCH,
    POSITION_FIELDS,
    WEIGHT_PATCH,
    WeightPatchBatch,
    computing_dtype,
    cut,
    cut_bias,
    group_by_architecture,
    join,
    join_bias,
    num_patches,
    patch_layout,
)


class WeightPatchTokenizer(NNiTHubMixin, ConfigMixin, PushToHubMixin):
    """Cuts the weights of MLPs of any width and depth into patches, and puts them together again.

    Implements the patch tokenization of NNiT (https://huggingface.co/papers/2603.00180). A weight matrix is first
    scaled by `sqrt(fan_in / 2)`, so that patches of narrow and wide networks are alike. It is then standardised per
    role of its layer (first, hidden, last) and cut into zero-padded p x p patches. Biases have patches of their own,
    of p * p biases each, so that rows and columns of weight patches stay aligned with units. Networks take raw inputs
    and return raw outputs: encoding removes the statistics of both from the first and the last layer, and decoding
    folds them in. On the CPU all computations are in float64.

    Parameters:
        in_features, out_features (`int`): Sizes of input and output of every network.
        activation (`str`, defaults to `"relu"`): Activation of every network.
        patch_size (`int`, defaults to 8): Side p of a patch.
        max_depth (`int`, defaults to 4):
            Number of architecture tokens. A deeper network, of up to 64 hidden layers, has one for each.
        weight_scale, bias_scale (`list[float]`, default to ones):
            RMS of the fan-in scaled weights and of the biases, per role. See [`~WeightPatchTokenizer.with_scales_of`].
        observation_mean, observation_std (`list[float]`, *optional*): Statistics of the networks' inputs.
        output_mean, output_std (`list[float]`, *optional*): Statistics of the networks' outputs.

    Raises:
        `ValueError`: If the activation is unknown, a size is not a positive integer or exceeds what `loading.limits`
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
        output_mean: list[float] | None = None,
        output_std: list[float] | None = None,
    ):
        check_activation(activation)
        check_sizes(in_features=in_features, out_features=out_features)
        check_sizes(patch_size=patch_size, most=MAX_PATCH_SIZE)
        check_sizes(max_depth=max_depth, most=MAX_DEPTH)
        check_numbers("weight_scale", weight_scale, len(ROLES), positive=True)
        check_numbers("bias_scale", bias_scale, len(ROLES), positive=True)
        check_statistics(observation_mean, observation_std, in_features)
        check_statistics(output_mean, output_std, out_features, "output")

    def architecture(self, hidden_sizes: Sequence[int]) -> MLPArchitecture:
        """Architecture with these hidden sizes, and the inputs, outputs and activation of this tokenizer.

        Raises:
            `ValueError`: If it is not a valid architecture, or has more than 64 hidden layers.
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
        check_no_output_activation("networks", architecture)
        architecture.tokens(max(self.config.max_depth, MAX_GENERATED_DEPTH))

    def num_patches(self, architecture: MLPArchitecture) -> int:
        """Number of patches of a network of this architecture."""
        return num_patches(architecture, self.config.patch_size)

    def patch_layout(self, architecture: MLPArchitecture) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions `[P, 5]` and element mask `[P, p * p]` of a network of this architecture."""
        return patch_layout(architecture, self.config.patch_size)

    def num_slots(self, architecture: MLPArchitecture) -> int:
        """Number of architecture tokens of a network of this architecture."""
        return max(self.config.max_depth, architecture.depth)

    def layout(self, architectures: Sequence[MLPArchitecture]) -> WeightPatchBatch:
        """Batch of networks to be generated: positions, masks and tokens are set, and patches are zero.

        Raises:
            `ValueError`: If an architecture is of another task or too deep, or the batch exceeds what `loading.limits`
                allows.
        """
        # check the batch before memory is allocated
        for architecture in architectures:
            self.check_architecture(architecture)
        patch_size = self.config.patch_size
        num_slots = max(map(self.num_slots, architectures), default=self.config.max_depth)
        num_networks, longest = len(architectures), max(map(self.num_patches, architectures), default=0)
        remedy = "Ask for fewer or smaller networks at a time."
        check_total("The patches of a batch", num_networks * longest, MAX_PATCHES, remedy)
        check_total("The weights of a batch", num_networks * longest * patch_size**2, MAX_WEIGHTS, remedy)
        # fill in positions and masks of every network
        layouts = [self.patch_layout(architecture) for architecture in architectures]
        positions_BPF = torch.zeros(num_networks, longest, len(POSITION_FIELDS), dtype=torch.long)
        element_mask = torch.zeros(num_networks, longest, patch_size**2, dtype=torch.bool)
        attention_mask = torch.zeros(num_networks, longest, dtype=torch.bool)
        for network, (positions, elements) in enumerate(layouts):
            positions_BPF[network, : len(positions)] = positions
            element_mask[network, : len(positions)] = elements
            attention_mask[network, : len(positions)] = True
        return WeightPatchBatch(
            patches=torch.zeros(num_networks, longest, patch_size**2),
            positions=positions_BPF,
            attention_mask=attention_mask,
            element_mask=element_mask,
            architecture_tokens=torch.tensor([a.tokens(num_slots) for a in architectures], dtype=torch.long),
            architectures=list(architectures),
        )

    def encode(self, networks: Sequence[nn.Sequential], dtype: torch.dtype = torch.float32) -> WeightPatchBatch:
        """Encodes networks of raw inputs and outputs as one padded batch of patches.

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
        return self.encode_state_dicts(state_dicts, architectures, standardised=False, dtype=dtype)

    def encode_state_dicts(
        self,
        state_dicts: Sequence[Mapping[str, torch.Tensor]],
        architectures: Sequence[MLPArchitecture],
        standardised: bool = True,
        task_labels: torch.Tensor | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> WeightPatchBatch:
        """Like [`~WeightPatchTokenizer.encode`], from state dicts as a [`GraphHyperNetwork`] returns them.

        Parameters:
            state_dicts (`Sequence[Mapping[str, torch.Tensor]]`): State dict of every network.
            architectures (`Sequence[MLPArchitecture]`): Architecture of every network.
            standardised (`bool`, defaults to `True`):
                Networks have standardised inputs and outputs, so no statistics are removed from their weights.
            task_labels (`torch.Tensor`, *optional*): `[B]`, what the networks are for, if there are several tasks.
            dtype (`torch.dtype`, defaults to `torch.float32`): Dtype of the patches.

        Returns:
            [`WeightPatchBatch`]:
                On the device of the weights. On the CPU all is computed in float64. On an accelerator, where float64
                is slow or missing, it is computed in float32, unless the weights or `dtype` are float64. A round trip
                then changes a weight by a few of its last bits. Biases of the first layer change by a few of the last
                bits of the statistics that are folded into them.

        Raises:
            `ValueError`: See [`~WeightPatchTokenizer.layout`].
        """
        batch = self.layout(architectures)
        batch.patches, batch.task_labels = batch.patches.to(dtype), task_labels
        if not architectures:
            return batch
        device, longest = state_dicts[0]["0.weight"].device, batch.patches.shape[1]
        # encode networks of the same architecture together
        groups = group_by_architecture(architectures)
        encoded = []
        for architecture, members in groups.items():
            stacked = stack_state_dicts([state_dicts[member] for member in members])
            precision = computing_dtype(stacked["0.weight"], dtype)
            stacked = {key: tensor.to(precision) for key, tensor in stacked.items()}
            patches = self.encode_stacked(stacked, architecture, standardised).to(dtype)
            encoded.append(nn.functional.pad(patches, (0, 0, 0, longest - patches.shape[1])))
        # in the order of the networks
        order = torch.tensor([member for members in groups.values() for member in members]).argsort()
        batch.patches = torch.cat(encoded)[order.to(device)]
        return batch.to(device)

    def encode_stacked(
        self, stacked: Mapping[str, torch.Tensor], architecture: MLPArchitecture, standardised: bool = True
    ) -> torch.Tensor:
        """Patches `[B, P, p * p]` of B stacked networks of one architecture, with the dtype and device of `stacked`.

        Parameters:
            stacked (`Mapping[str, torch.Tensor]`): Their weights; see [`stack_state_dicts`].
            architecture (`MLPArchitecture`): Their architecture.
            standardised (`bool`, defaults to `True`): See [`~WeightPatchTokenizer.encode_state_dicts`].
        """
        if not standardised:
            precision = stacked["0.weight"].dtype
            if self._observation_statistics:
                stacked = unfold_observation_statistics(stacked, *self._observation_statistics, precision)
            if self._output_statistics:
                stacked = unfold_output_statistics(stacked, *self._output_statistics, precision)
        # scale and cut every layer
        patches = []
        for layer, (weight_key, bias_key) in enumerate(layer_keys(architecture.depth + 1)):
            weight_scale, bias_scale = self._scales(architecture, layer)
            patches.append(cut(stacked[weight_key] / weight_scale, self.config.patch_size))
            patches.append(cut_bias(stacked[bias_key] / bias_scale, self.config.patch_size))
        return torch.cat(patches, dim=1)

    def decode(
        self, patches: torch.Tensor, architectures: Sequence[MLPArchitecture], dtype: torch.dtype = torch.float32
    ) -> list[dict[str, torch.Tensor]]:
        """Decodes patches `[B, P, p * p]` into state dicts of networks of raw inputs and outputs, in order.

        The weights are on the device of the patches. See [`~WeightPatchTokenizer.encode_state_dicts`] for precision.

        Raises:
            `ValueError`: If an architecture is of another task, or too deep.
        """
        # decode networks of the same architecture together
        state_dicts: list[dict[str, torch.Tensor]] = [{} for _ in architectures]
        for architecture, members in group_by_architecture(architectures).items():
            self.check_architecture(architecture)
            stacked = self.decode_stacked(patches[members].to(computing_dtype(patches, dtype)), architecture)
            # copy, so that each network owns its memory
            for row, member in enumerate(members):
                state_dicts[member] = {key: tensor[row].to(dtype, copy=True) for key, tensor in stacked.items()}
        return state_dicts

    def decode_stacked(self, patches: torch.Tensor, architecture: MLPArchitecture) -> dict[str, torch.Tensor]:
        """Stacked weights of B networks of one architecture, of raw inputs and outputs, from patches `[B, P, p * p]`.

        Their dtype and device are those of the patches. Patches beyond those of the architecture are ignored.
        """
        # join and scale the patches of every layer
        remaining, stacked = patches, {}
        keys = layer_keys(architecture.depth + 1)
        for layer, (out_features, in_features) in enumerate(architecture.layer_shapes):
            weight_scale, bias_scale = self._scales(architecture, layer)
            weight, remaining = join(remaining, out_features, in_features, self.config.patch_size)
            bias, remaining = join_bias(remaining, out_features, self.config.patch_size)
            stacked[keys[layer][0]], stacked[keys[layer][1]] = weight * weight_scale, bias * bias_scale
        if self._observation_statistics:
            stacked = fold_observation_statistics(stacked, *self._observation_statistics, patches.dtype)
        if self._output_statistics:
            stacked = fold_output_statistics(stacked, *self._output_statistics, patches.dtype)
        return stacked

    def with_scales_of(self, batches: Iterable[WeightPatchBatch]) -> WeightPatchTokenizer:
        """A copy of this tokenizer whose scales give the patches of these networks unit RMS.

        Parameters:
            batches (`Iterable[WeightPatchBatch]`): Networks encoded by this tokenizer.
        """
        # sum squares per kind and role
        squares, counts = torch.zeros(2, len(ROLES), dtype=torch.float64), torch.zeros(2, len(ROLES))
        for batch in batches:
            batch = batch.to("cpu")
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

    @property
    def _observation_statistics(self) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation of the inputs, if they are known."""
        mean, std = self.config.observation_mean, self.config.observation_std
        return None if mean is None else (mean, std)

    @property
    def _output_statistics(self) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation of the outputs, if they are standardised."""
        mean, std = self.config.output_mean, self.config.output_std
        return None if mean is None else (mean, std)

    def _scales(self, architecture: MLPArchitecture, layer: int) -> tuple[float, float]:
        """Scales of the weights and of the biases of one layer."""
        role = layer_role(layer, architecture.depth + 1)
        fan_in = architecture.layer_shapes[layer][1]
        return self.config.weight_scale[role] * (2 / fan_in) ** 0.5, self.config.bias_scale[role]

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Saves `tokenizer_config.json`. With `push_to_hub=True` also uploads it, with `kwargs` for `push_to_hub`."""
        self.save_config(save_directory, push_to_hub=push_to_hub, **kwargs)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> WeightPatchTokenizer:
        """Loads a tokenizer from a folder or a Hub repository (`subfolder=`, `revision=`, `cache_dir=`, …)."""
        options = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "subfolder")
        config = cls.load_config(
            pretrained_model_name_or_path, **{name: kwargs[name] for name in options if name in kwargs}
        )
        return cls.from_config(config)
