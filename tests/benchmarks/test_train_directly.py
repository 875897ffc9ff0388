"""Scores of networks trained one by one."""

import json

import pytest
import torch
from train_directly import Arguments, hidden_sizes_of, main

from nnit_diffusers import NNiTPipeline, evaluate
from nnit_diffusers.evaluation import wilson_interval


def test_every_architecture_is_trained_with_every_seed_and_scored_on_raw_inputs(tmp_path):
    path = tmp_path / "direct.json"
    main(Arguments(("1", "24-20"), str(path), sgd_seeds=(0, 1), train_batch_size=64, max_train_steps=300))
    rows = json.loads(path.read_text())["architectures"]
    assert list(rows) == ["1", "24-20"]
    # a single unit cannot distinguish ten digits
    assert rows["1"]["score"] < 0.5 and rows["24-20"]["score"] > 0.9
    for row in rows.values():
        assert row["score"] == pytest.approx(sum(row["scores"]) / 2)
        assert row["interval"] == list(wilson_interval(round(row["score"] * row["num_episodes"]), row["num_episodes"]))
        assert len(row["losses"]) == 2


def test_the_same_seed_trains_the_same_network(tmp_path):
    reports = []
    for name in ("first", "second"):
        main(Arguments(("6",), str(tmp_path / name), sgd_seeds=(3,), max_train_steps=20))
        reports.append(json.loads((tmp_path / name).read_text())["architectures"])
    assert reports[0] == reports[1]


def test_generated_networks_of_the_same_shapes_are_scored_beside(tmp_path, digits_pipeline_folder, digits):
    path, pipe = tmp_path / "direct.json", str(digits_pipeline_folder)
    settings = {"sgd_seeds": (0, 1), "max_train_steps": 2, "split": "test", "episode_seed": 5}
    main(Arguments(("9-8",), str(path), pretrained_model_name_or_path=pipe, num_inference_steps=2, **settings))
    row = json.loads(path.read_text())["architectures"]["9-8"]
    generator = torch.Generator().manual_seed(5)
    networks = NNiTPipeline.from_pretrained(pipe)([9, 8], 2, num_inference_steps=2, generator=generator).networks
    assert row["generated"]["scores"] == [result.score for result in evaluate(networks, digits, split="test")]
    assert row["num_parameters"] == networks[0].architecture.num_parameters


def test_an_invalid_list_of_sizes_is_refused():
    with pytest.raises(ValueError, match="hidden sizes such as '64-64', but received '64,64'"):
        hidden_sizes_of("64,64")
