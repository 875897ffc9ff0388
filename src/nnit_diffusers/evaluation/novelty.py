"""Novelty of generated networks: their distances to networks of the GHN, and simpler ways to get a new network.

Shape legend: B, C networks, N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..architecture import MLPArchitecture
from ..models.weight_patch_tokenizer import WeightPatchTokenizer
from ..networks import MLP
from ..tasks.base import Task
from ..tasks.classification import ClassificationTask
from .scoring import predict


# Standard deviation of the small noise, in units of the rms of the weights of a layer.
SMALL_NOISE = 0.2


def agreement(predictions: torch.Tensor, other_predictions: torch.Tensor | None = None) -> torch.Tensor:
    """Share of the samples on which two networks predict the same class, for every pair of networks.

    Parameters:
        predictions (`torch.Tensor`): `[B, N]`, from [`predict`]. A prediction of -1 agrees with none.
        other_predictions (`torch.Tensor`, *optional*): `[C, N]`; `predictions` again by default.

    Returns:
        `torch.Tensor`: `[B, C]`, 0 to 1.
    """
    others = predictions if other_predictions is None else other_predictions
    num_classes = int(max(predictions.max(), others.max())) + 1
    # shift by one: -1 becomes class 0, which is then dropped
    one_hot_BNK = F.one_hot(predictions + 1, num_classes + 1)[..., 1:].float()
    one_hot_CNK = F.one_hot(others + 1, num_classes + 1)[..., 1:].float()
    return one_hot_BNK.flatten(1) @ one_hot_CNK.flatten(1).mT / predictions.shape[1]


def spread(weights_KW: torch.Tensor) -> torch.Tensor:
    """Spread of K networks of one architecture in every direction, `[K - 1]`, smallest first.

    These are the singular values of the normalised weights, centred on their mean. For two networks, the value is
    their distance divided by the square root of two. For more networks, all pairs may be apart while the smallest
    singular value is 0, because the networks may lie on a line or in a plane.
    """
    unit_KW = weights_KW / weights_KW.norm(dim=1, keepdim=True)
    centred_KW = unit_KW - unit_KW.mean(dim=0)
    # Weights that are not finite have no decomposition. The task loss reports them instead.
    gram_KK = (centred_KW @ centred_KW.mT).nan_to_num()
    # The first eigenvalue is 0, because the weights are centred.
    return torch.linalg.eigvalsh(gram_KK)[1:].clamp(min=1e-8).sqrt()


def participation_ratio(weights_KW: torch.Tensor) -> float:
    """Effective dimensionality (participation ratio) of K networks of one architecture, from 1 to K - 1.

    Of the variances along the principal directions, the squared sum divided by the sum of squares.
    """
    variances = spread(weights_KW).square()
    return (variances.sum().square() / variances.square().sum()).item()


def closeness_of(
    networks: Sequence[MLP], references: Sequence[MLP], tokenizer: WeightPatchTokenizer, task: Task
) -> dict[str, float]:
    """Mean distances between standardised weights, and mean agreement of predictions on test inputs.

    `participation_ratio` is the effective dimensionality of the weights. Agreement is measured for data sets only.
    """
    # distances between weights
    patches, reference_patches = (patches_of(members, tokenizer) for members in (networks, references))
    # no matrix product, which would round small distances, those of copies, to noise
    distances = torch.cdist(patches, reference_patches, compute_mode="donot_use_mm_for_euclid_dist")
    nearest, indices = distances.min(dim=1)
    closeness = {
        "norm": patches.norm(dim=1).mean().item(),
        "nearest_distance": nearest.mean().item(),
        "nearest_distance_min": nearest.min().item(),
        "mean_distance": torch.pdist(patches).mean().item(),
        "participation_ratio": participation_ratio(patches),
    }
    # agreement of predictions
    if isinstance(task, ClassificationTask):
        predictions, reference_predictions = (predict(members, task) for members in (networks, references))
        with_each_other = agreement(predictions)
        others = ~torch.eye(len(networks), dtype=torch.bool)
        with_nearest = agreement(predictions, reference_predictions).gather(1, indices[:, None])
        closeness["nearest_agreement"] = with_nearest.mean().item()
        closeness["mean_agreement"] = with_each_other[others].mean().item()
    return closeness


def patches_of(networks: Sequence[MLP], tokenizer: WeightPatchTokenizer) -> torch.Tensor:
    """Standardised weights of B networks of one architecture, as the transformer receives them: `[B, N]`."""
    return tokenizer.encode(networks, dtype=torch.float64).patches.flatten(1)


def baselines(
    networks: Sequence[MLP], tokenizer: WeightPatchTokenizer, distance: float, generator: torch.Generator
) -> dict[str, list[MLP]]:
    """Averages of two networks of the GHN, and networks of the GHN with noise on their weights.

    There are two levels of noise: a small one, and one that moves each network by `distance`. The latter is the mean
    distance of generated networks to their nearest neighbour among those of the GHN.
    """
    # noise in the elements that hold weights
    architectures = [network.architecture for network in networks]
    patches = tokenizer.encode(networks, dtype=torch.float64).patches
    mask = tokenizer.layout(architectures[:1]).element_mask
    noise = torch.randn(patches.shape, generator=generator, dtype=patches.dtype) * mask
    far = noise * distance / noise.flatten(1).norm(dim=1)[:, None, None]
    # the new weights
    made = {
        "ghn_interpolation": (patches + patches.roll(1, dims=0)) / 2,
        "ghn_small_noise": patches + SMALL_NOISE * noise,
        "ghn_same_distance_noise": patches + far,
    }
    # back to networks
    return {
        name: [
            MLP.from_architecture(architecture, state_dict)
            for architecture, state_dict in zip(architectures, tokenizer.decode(new_patches, architectures))
        ]
        for name, new_patches in made.items()
    }


@torch.no_grad()
def ensemble(networks: Sequence[MLP]) -> MLP:
    """One network whose output is the mean of the outputs of networks of one shape, which run side by side in it."""
    # the layers of all networks: stacked, block-diagonal, and averaged at the output
    first, *hidden, last = zip(*(network.weights_and_biases() for network in networks))
    weights = [torch.cat([weight for weight, _ in first])]
    weights += [torch.block_diag(*(weight for weight, _ in layer)) for layer in hidden]
    weights += [torch.cat([weight for weight, _ in last], dim=1) / len(networks)]
    biases = [torch.cat([bias for _, bias in layer]) for layer in (first, *hidden)]
    biases += [torch.stack([bias for _, bias in last]).mean(dim=0)]
    # a network as wide as all of them together
    architecture = networks[0].architecture
    hidden_sizes = tuple(width * len(networks) for width in architecture.hidden_sizes)
    return MLP.from_architecture(
        MLPArchitecture(architecture.in_features, hidden_sizes, architecture.out_features, architecture.activation),
        {
            f"{2 * layer}.{name}": tensor
            for layer, pair in enumerate(zip(weights, biases))
            for name, tensor in zip(("weight", "bias"), pair)
        },
    )
