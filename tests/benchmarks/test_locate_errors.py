"""Training losses of the parts of a pipeline."""

import json

import pytest
import torch
from locate_errors import Arguments, losses_of, main, restore

from nnit_diffusers import NNiTPipeline


@pytest.fixture(scope="module")
def published():
    pipe = NNiTPipeline.from_pretrained("nnit/digits")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_networks_of_every_part_are_measured_on_the_same_samples(tmp_path):
    reports = []
    for name in ("first", "second"):
        main(Arguments(str(tmp_path / name), num_architectures=2, num_networks=2, batch_size=64, sigmas=(0.1, 0.9)))
        reports.append(json.loads((tmp_path / name).read_text())["architectures"])
    assert reports[0] == reports[1]
    assert len(reports[0]) == 2
    for rows in reports[0].values():
        assert list(rows) == ["ghn", "restored from 0.1", "restored from 0.9", "sampled"]
        for row in rows.values():
            assert len(row["losses"]) == 2
            assert row["loss"] == pytest.approx(sum(row["losses"]) / 2)
            # guessing one of ten digits has a loss of 2.3
            assert row["loss"] < 1.5
        # more noise, larger error
        assert 0 < rows["restored from 0.1"]["function_error"] < rows["restored from 0.9"]["function_error"]


def test_a_network_without_noise_is_restored_up_to_the_error_of_the_transformer(published, digits):
    generator = torch.Generator().manual_seed(0)
    inputs, targets = digits.training_batch(100, generator)
    networks = published.ghn.generate([digits.regions.architecture([48, 40])] * 2, generator=generator)
    restored, errors = restore(published, networks, 0.0, generator, inputs)
    assert max(errors) < 0.1
    for ours, theirs in zip(restored, networks):
        assert ours.architecture == theirs.architecture
    expected = [digits.loss(network(inputs)[None], targets).item() for network in restored]
    assert losses_of(digits, restored, inputs, targets) == pytest.approx(expected, rel=1e-4)


def test_a_pipeline_without_a_ghn_is_refused(published, tmp_path):
    NNiTPipeline(**{**published.components, "ghn": None}).save_pretrained(tmp_path / "pipeline")
    with pytest.raises(ValueError, match="must be a pipeline with a GHN, but received .*pipeline'"):
        main(Arguments(str(tmp_path / "report"), pretrained_model_name_or_path=str(tmp_path / "pipeline")))
