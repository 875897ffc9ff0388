"""Searches for a microcontroller: limits of flash and multiply-accumulates, and scores with 8-bit weights."""

import json

import pytest
import torch
from tiny import tiny_pipeline
from tiny_tasks import TinyDataTask

from nnit_diffusers import MLPArchitecture, search
from nnit_diffusers.export import QuantizedMLP, footprint
from nnit_diffusers.network_search import report
from nnit_diffusers.network_search.chip import ChipLimits


SMALL = {"num_bands": 3, "networks_per_band": 4, "reduction": 2, "num_inference_steps": 1, "progress_bar": False}
EPISODES = {"screen_episodes": (20,), "num_confirm_episodes": 120}


class RecordingTask(TinyDataTask):
    """The tiny task, which keeps the networks that it scores."""

    def __init__(self):
        self.scored = []

    def score(self, networks, **options):
        self.scored += networks
        return super().score(networks, **options)


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_only_networks_within_the_limits_are_scored_and_with_the_weights_of_the_chip(pipe, tmp_path, quantize):
    task, limits = RecordingTask(), {"max_flash": 700, "max_macs": 150, "quantize": quantize}
    result = search(pipe, task, tmp_path, target=0.5, **limits, **SMALL, **EPISODES)
    assert task.scored and result.finalists
    assert {isinstance(network, QuantizedMLP) for network in task.scored} == {quantize == "int8"}
    for network in task.scored:
        cost = footprint(network.architecture, quantize)
        assert cost.weight_bytes <= 700 and cost.multiply_accumulates <= 150
    # what was confirmed is what the exported network scores
    finalist = result.finalists[0]
    inputs, labels = task.data("test")
    with torch.no_grad():
        (network,) = ChipLimits(**limits).exported([result.network(finalist)])
        right = (network(inputs).argmax(dim=1) == labels).sum().item()
    assert finalist.confirmation.num_successes == right
    # and the costs are reported
    saved = json.loads((tmp_path / "search.json").read_text())["result"]["finalists"][0]
    assert saved["weight_bytes"] == footprint(finalist.architecture, quantize).weight_bytes
    table = report.search_table(result)
    assert "Flash, bytes" in table and f"{saved['weight_bytes']:,}" in table
    assert ("Confirmed with int8 weights" in table) == (quantize == "int8")


def test_a_search_without_limits_has_the_settings_of_older_versions(pipe, tmp_path):
    result = search(pipe, TinyDataTask(), tmp_path, target=0.5, **SMALL, **EPISODES)
    saved = json.loads((tmp_path / "search.json").read_text())
    assert not {"max_flash", "max_macs", "quantize"} & set(saved["settings"])
    assert "Flash" not in report.search_table(result) and "weight_bytes" not in saved["result"]["finalists"][0]


def test_bands_end_where_nothing_fits_any_more():
    for quantize in (None, "int8"):
        limits = ChipLimits(max_flash=2000, max_macs=400, quantize=quantize)
        most = limits.max_parameters(None)
        for hidden_sizes in [(4,), (9, 9), (12, 12, 12), (40,), (60,)]:
            architecture = MLPArchitecture(5, hidden_sizes, 3)
            assert not limits.allow(architecture) or architecture.num_parameters <= most
    assert ChipLimits().max_parameters(77) == 77 and ChipLimits().max_parameters(None) is None


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_flash": 3}, "`max_flash` must be 1.* or more, that of the smallest network"),
        ({"max_macs": 3}, "`max_macs` must be 32 or more, that of the smallest network"),
        ({"max_flash": 0}, "`max_flash` must be an integer of 1 or more, but received 0"),
        ({"max_macs": 1.5}, "`max_macs` must be an integer of 1 or more, but received 1.5"),
        ({"quantize": "int4"}, "`quantize` must be 'int8' or None, but received 'int4'"),
    ],
)
def test_limits_that_no_network_can_meet_are_refused_and_nothing_is_written(pipe, tmp_path, limits, message):
    with pytest.raises(ValueError, match=message):
        search(pipe, TinyDataTask(), tmp_path / "out", **limits, **SMALL)
    assert not (tmp_path / "out").exists()
