"""Distances of networks, simpler ways to a new one, and the section that compares them."""

import pytest
import torch
from untrained import FEW

from nnit_diffusers.evaluation.novelty import baselines, closeness_of, ensemble, patches_of
from nnit_diffusers.regions import REGIONS


def test_the_documented_architecture_and_one_of_every_region_are_compared_with_the_ghn(report):
    assert "48-40" in report["novelty"]
    assert {part["region"] for part in report["novelty"].values()} == set(REGIONS)
    for part in report["novelty"].values():
        ratio = part["nnit"]["nearest_distance"] / part["ghn"]["nearest_distance"]
        assert part["nearest_distance_ratio"] == pytest.approx(ratio)
        assert part["scores"]["nnit_ensemble"]["num_networks"] == 2
        assert 1 <= part["nnit"]["participation_ratio"] <= FEW["num_compared_networks"] - 1


def test_copies_have_distance_0_and_agreement_1(pipe, digits):
    architecture = digits.regions.architecture([20, 17])
    references = pipe.ghn.generate([architecture] * 5, generator=torch.Generator().manual_seed(0))
    closeness = closeness_of(references[1:4], references, pipe.tokenizer, digits)
    assert closeness["nearest_distance"] == pytest.approx(0, abs=1e-6)
    assert closeness["nearest_agreement"] == 1
    patches = patches_of(references[1:4], pipe.tokenizer)
    pairs = [(patches[i] - patches[j]).norm().item() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert closeness["mean_distance"] == pytest.approx(sum(pairs) / 3)


def test_baselines_are_averages_of_networks_and_noise_of_the_given_distance(pipe, digits):
    architecture = digits.regions.architecture([20, 17])
    networks = pipe.ghn.generate([architecture] * 3, generator=torch.Generator().manual_seed(0))
    made = baselines(networks, pipe.tokenizer, 12.5, torch.Generator().manual_seed(0))
    patches = {name: patches_of(members, pipe.tokenizer) for name, members in {**made, "ghn": networks}.items()}
    moved = (patches["ghn_same_distance_noise"] - patches["ghn"]).norm(dim=1)
    assert moved.tolist() == pytest.approx([12.5] * 3, rel=1e-5)
    between = patches["ghn_interpolation"]
    assert torch.cdist(between, patches["ghn"])[0, 0] == pytest.approx(
        torch.pdist(patches["ghn"])[1].item() / 2, rel=1e-5
    )
    rms = (patches["ghn_small_noise"] - patches["ghn"]).square().sum(dim=1) / architecture.num_parameters
    assert rms.sqrt().tolist() == pytest.approx([0.2] * 3, rel=0.05)


@pytest.mark.parametrize("hidden_sizes", [[20], [20, 17, 31]])
def test_an_ensemble_averages_the_outputs_of_its_networks(pipe, digits, hidden_sizes):
    architecture = digits.regions.architecture(hidden_sizes)
    networks = pipe.ghn.generate([architecture] * 3, generator=torch.Generator().manual_seed(0))
    inputs = 16 * torch.rand(7, 64)
    mean = torch.stack([network(inputs) for network in networks]).mean(dim=0)
    torch.testing.assert_close(ensemble(networks)(inputs), mean)
