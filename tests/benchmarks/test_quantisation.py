"""Networks in 32-bit floats beside the same ones with 8-bit weights."""

import json

import pytest
from quantisation import Arguments, main

from nnit_diffusers import evaluate, get_task
from nnit_diffusers.export import footprint, quantize
from nnit_diffusers.networks import MLP, MLPArchitecture


def test_the_same_networks_are_scored_in_both_precisions(tmp_path, digits_pipeline_folder, monkeypatch):
    import quantisation

    scored = []

    def recorded(networks, *arguments):
        scored.extend(networks)
        return evaluate(networks, *arguments)

    monkeypatch.setattr(quantisation, "evaluate", recorded)
    path = tmp_path / "report.json"
    main(
        Arguments(
            str(path),
            str(digits_pipeline_folder),
            hidden_sizes=(9, 7),
            num_networks=3,
            num_episodes=100,
            num_inference_steps=1,
        )
    )
    report = json.loads(path.read_text())
    floats, integers = scored[:3], scored[3:]
    assert all(isinstance(network, MLP) for network in floats)
    expected = evaluate([*floats, *map(quantize, floats)], get_task("digits"), 100)
    assert report["float32"]["scores"] == [result.score for result in expected[:3]]
    assert report["int8"]["scores"] == [result.score for result in expected[3:]]
    assert len(integers) == report["int8_minus_float32"]["num_networks"] == 3
    differences = [after.score - before.score for before, after in zip(expected[:3], expected[3:], strict=True)]
    assert report["int8_minus_float32"]["mean"] == pytest.approx(sum(differences) / 3)
    architecture = MLPArchitecture(64, (9, 7), 10)
    assert report["footprint"]["int8"] == footprint(architecture, "int8").to_dict()
