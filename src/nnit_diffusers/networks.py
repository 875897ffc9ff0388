"""Plain torch MLPs.

Shape legend: N inputs (samples), I/O input and output features of a layer or network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from torch import nn

from .architecture import MLPArchitecture
from .checkpoints import contract_of_file, read_network
from .contract import CONTRACT_KEY, NetworkContract
from .loading.local import find_folder, read_json_object, read_weights


ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
}
ACTIVATION_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
}
# Options that make a module another function than the activation of its name, with the values of the activation.
_MODULE_OPTIONS = {"approximate": "none", "alpha": 1.0, "negative_slope": 0.01}

Network = Callable[[torch.Tensor], torch.Tensor]
"""What tasks score: an [`MLP`], another module, or any function from raw inputs `[N, I]` to outputs `[N, O]`."""


class MLP(
    nn.Sequential,
    PyTorchModelHubMixin,
    library_name="nnit-diffusers",
    repo_url="https://github.com/nnit-diffusers/nnit-diffusers",
    tags=["nnit", "mlp"],
):
    """A multi-layer perceptron with the keys of a plain `nn.Sequential`: `0.weight`, `0.bias`, `2.weight`, …

    Inputs are raw, because observation statistics are folded into the first layer. [`~MLP.save_pretrained`] saves a
    network as `config.json` and `model.safetensors`, and [`~MLP.push_to_hub`] publishes it. A network that another
    program trained is read by [`~MLP.from_checkpoint`]. Its `contract`, if it has one, describes what it is for; it is
    saved and loaded with the network.

    Parameters:
        in_features (`int`): Size of one input.
        hidden_sizes (`Sequence[int]`): Width of every hidden layer.
        out_features (`int`): Size of one output.
        activation (`str`, defaults to `"relu"`): Activation between the linear layers.
        output_activation (`str`, *optional*): Activation after the last linear layer: `"tanh"`, or none.

    Raises:
        `ValueError`: If the arguments are not a valid [`MLPArchitecture`].
    """

    # of the class, so that networks pickled by older versions have none
    _contract: NetworkContract | None = None

    def __init__(
        self,
        in_features: int,
        hidden_sizes: Sequence[int],
        out_features: int,
        activation: str = "relu",
        output_activation: str | None = None,
    ):
        architecture = MLPArchitecture(in_features, tuple(hidden_sizes), out_features, activation, output_activation)
        layers: list[nn.Module] = []
        for layer_out, layer_in in architecture.layer_shapes:
            layers += [nn.Linear(layer_in, layer_out), ACTIVATION_MODULES[activation]()]
        layers.pop()
        if output_activation is not None:
            layers.append(ACTIVATION_MODULES[output_activation]())
        super().__init__(*layers)

    @property
    def architecture(self) -> MLPArchitecture:
        """Architecture of the modules as they are, also if some were replaced.

        Raises:
            `ValueError`: If the modules are no MLP any more; see [`architecture_of`].
        """
        return architecture_of(self)

    @property
    def contract(self) -> NetworkContract | None:
        """What the network means, or `None`; setting one that does not fit its sizes raises `ValueError`."""
        return self._contract

    @contract.setter
    def contract(self, contract: NetworkContract | None) -> None:
        if contract is not None:
            contract.check_sizes(self.architecture.in_features, self.architecture.out_features)
        self._contract = contract

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
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> MLP:
        """Loads a network from a folder or a Hub repository (`revision=`, `cache_dir=`, `token=`, …), ready to use.

        Raises:
            `OSError`: If the network does not exist, or its weights are missing, truncated or altered.
            `ValueError`: If its configuration is invalid, or its weights do not match the configuration.
        """
        # The method of the mixin falls back to a pickle, and leaves missing weights at their random initialisation.
        folder = find_folder(pretrained_model_name_or_path, (CONFIG_NAME, SAFETENSORS_SINGLE_FILE), **kwargs)
        path = folder / CONFIG_NAME
        config = read_json_object(path)
        saved_contract = config.pop(CONTRACT_KEY, None)
        try:
            architecture = MLPArchitecture(**config)
            contract = None if saved_contract is None else NetworkContract.from_dict(saved_contract)
            if contract is not None:
                contract.check_sizes(architecture.in_features, architecture.out_features)
        except (TypeError, ValueError) as error:  # a parameter that is missing, unknown, or out of its range
            raise ValueError(f"{str(path)!r} is not the configuration of an MLP: {error}") from error
        weights = read_weights(folder / SAFETENSORS_SINGLE_FILE, architecture.tensor_shapes)
        network = cls.from_architecture(architecture, weights).eval()
        network.contract = contract
        return network

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        *,
        activation: str | None = None,
        observation_mean: Sequence[float] | torch.Tensor | None = None,
        observation_std: Sequence[float] | torch.Tensor | None = None,
        ignore_clip: bool = False,
    ) -> MLP:
        """Reads a network that another program trained or exported. Nothing in the file is run.

        It reads every format of [`export_network`], checkpoints of ManiSkill, CleanRL, Stable-Baselines3 and RSL-RL,
        state dicts of an `nn.Sequential`, and ONNX models of linear layers and activations. A normaliser of
        observations in the file is folded into the first layer; see `docs/policies.md`. A contract in the file, or
        beside it, becomes that of the network.

        Parameters:
            path (`str` or `Path`): The file; or a folder that this package or `nnit export --format lerobot` wrote.
            activation (`str`, *optional*):
                Activation between the linear layers, for a file that does not record it.
            observation_mean, observation_std (`Sequence[float]`, *optional*):
                Statistics of a normaliser that the file lacks, I numbers each; both or none.
            ignore_clip (`bool`, defaults to `False`):
                Read a network without the clip of its observations or outputs, which an MLP can't hold.

        Raises:
            `OSError`: If the file is missing, truncated or altered.
            `ValueError`: If it is no MLP, its activation is neither recorded nor given, or it clips or scales.
            `ImportError`: If the file needs a package that is not installed.
        """
        saved = read_network(path, activation, mean=observation_mean, std=observation_std, ignore_clip=ignore_clip)
        network = cls.from_architecture(saved.architecture, saved.state_dict()).eval()
        try:
            network.contract = contract_of_file(path)
        except ValueError as error:
            raise ValueError(f"{str(path)!r} can't be read with its contract: {error}") from error
        return network

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *, config: Any = None, **kwargs: Any
    ) -> str | None:
        """Saves `config.json` and `model.safetensors`; see [`~huggingface_hub.ModelHubMixin.save_pretrained`].

        Raises:
            `ValueError`: If modules were replaced and the network is no MLP any more. Nothing is written then.
        """
        # The mixin's own configuration has the arguments of `__init__`, not the modules as they are.
        contract = {} if self.contract is None else {CONTRACT_KEY: self.contract.to_dict()}
        config = {**self.architecture.to_dict(), **contract, **(config or {})}
        return super().save_pretrained(Path(save_directory), config=config, **kwargs)

    def __getitem__(self, index: slice | int) -> nn.Module:
        # A slice is not an `MLP`: it need not begin or end with a linear layer.
        return nn.Sequential(*list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)

    def weights_and_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """`(weight [O, I], bias [O])` of every linear layer, from input to output."""
        return [(layer.weight, layer.bias) for layer in self if isinstance(layer, nn.Linear)]


def architecture_of(network: nn.Module) -> MLPArchitecture:
    """Architecture of an `nn.Sequential` of `nn.Linear` layers and one kind of activation; a tanh may follow the last.

    Raises:
        `ValueError`: If it holds any other module, lacks a bias, mixes activations, or its layer sizes do not chain.
    """
    if not isinstance(network, nn.Sequential):
        raise ValueError(f"`networks` must be `nn.Sequential` MLPs, but received a {type(network).__name__}.")
    modules = list(network)
    # a tanh after the last layer bounds the outputs
    output_activation = "tanh" if len(modules) % 2 == 0 and modules and type(modules[-1]) is nn.Tanh else None
    if output_activation is not None:
        modules.pop()
    # collect layers and activations, which must alternate
    linears, activations = [], set()
    for index, module in enumerate(modules):
        if index % 2 == 0 and isinstance(module, nn.Linear):
            if module.bias is None:
                raise ValueError(f"`networks` must have a bias in every layer, but layer {index} has none.")
            linears.append(module)
            continue
        name = _activation_of(module)
        if index % 2 == 0 or name is None:
            expected = "nn.Linear" if index % 2 == 0 else f"an activation of {sorted(ACTIVATION_MODULES)}"
            is_named = type(module) in ACTIVATION_MODULES.values() and name is None
            raise ValueError(
                f"`networks` must alternate `nn.Linear` and one activation, but module {index} is "
                f"{module if is_named else type(module).__name__} where {expected} is expected."
            )
        activations.add(name)
    if len(linears) < 2 or len(modules) % 2 == 0 or len(activations) != 1:
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
    sizes = [linears[0].in_features, *(linear.out_features for linear in linears)]
    return MLPArchitecture(sizes[0], tuple(sizes[1:-1]), sizes[-1], activations.pop(), output_activation)


def _activation_of(module: nn.Module) -> str | None:
    """Name of the activation that a module computes; `None` if it is another function."""
    # `nn.GELU(approximate="tanh")` and `nn.ELU(alpha=0.5)` are other functions than `gelu` and `elu`
    if any(getattr(module, option, value) != value for option, value in _MODULE_OPTIONS.items()):
        return None
    return next((name for name, kind in ACTIVATION_MODULES.items() if type(module) is kind), None)


def declared_architecture(network: Any) -> MLPArchitecture | None:
    """The `architecture` that a network has as an attribute; `None` if it has none, or is an MLP no more."""
    try:
        declared = getattr(network, "architecture", None)
    except ValueError:  # an `MLP` with other modules
        return None
    return declared if isinstance(declared, MLPArchitecture) else None


def mlp_weights(network: Network) -> tuple[MLPArchitecture, dict[str, torch.Tensor]] | None:
    """Architecture and weights of a network that [`batched_forward`] can run; `None` for any other network.

    It runs [`MLP`]s, other `nn.Sequential` MLPs ([`architecture_of`]), and modules with an `architecture` and the
    state dict of an MLP. The weights have the keys of an MLP, and no gradient.
    """
    if isinstance(network, nn.Sequential):
        linears = [module for module in network if isinstance(module, nn.Linear)]
        # a `forward` of their own, or a hook, computes something else than the weights show
        if type(network).forward is not nn.Sequential.forward:
            return None
        if any(type(linear).forward is not nn.Linear.forward for linear in linears):
            return None
        if any(module._forward_hooks or module._forward_pre_hooks for module in network.modules()):
            return None
        try:
            architecture = architecture_of(network)
        except ValueError:
            return None
        tensors = [tensor for linear in linears for tensor in (linear.weight, linear.bias)]
        return architecture, {key: tensor.detach() for key, tensor in zip(architecture.tensor_shapes, tensors)}

    # another module that declares its architecture
    declared = declared_architecture(network)
    if not isinstance(network, nn.Module) or declared is None:
        return None
    state_dict = network.state_dict()
    is_mlp = {key: tuple(tensor.shape) for key, tensor in state_dict.items()} == declared.tensor_shapes
    return (declared, state_dict) if is_mlp else None


def layer_keys(num_layers: int) -> list[tuple[str, str]]:
    """`(weight key, bias key)` of every linear layer in the state dict of an [`MLP`]."""
    return [(f"{2 * layer}.weight", f"{2 * layer}.bias") for layer in range(num_layers)]
