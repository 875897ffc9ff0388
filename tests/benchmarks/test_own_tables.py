"""Four tables, each trained by one command and compared with networks trained one by one."""

import json

import pytest
from launching import fresh_accelerate
from own_tables import Arguments, california_like, main


SETTINGS = (
    *("nested.max_train_steps=2", "nested.validation_architectures=1"),
    *("ghn.max_train_steps=2", "ghn.num_architectures=2", "ghn.validation_architectures=1"),
    *("nnit.max_train_steps=2", "nnit.num_layers=1", "nnit.num_attention_heads=1", "nnit.attention_head_dim=8"),
    *("nnit.train_batch_size=2", "nnit.validation_architectures=1", "tuning=none"),
    *("evaluation.num_architectures=2", "evaluation.num_networks=2", "evaluation.num_selected=1"),
    *('evaluation.sections=["regions","direct"]', "evaluation.num_inference_steps=1", "evaluation.direct_steps=300"),
    *("evaluation.num_direct_architectures=1", "evaluation.num_direct_networks=1"),
)


def test_a_table_is_trained_by_one_command_and_stands_beside_direct_training(tmp_path):
    settings = tuple(part for setting in SETTINGS for part in ("--set", setting))
    with fresh_accelerate():
        main(Arguments(str(tmp_path / "result.json"), str(tmp_path / "work"), ("diabetes",), settings))
    report = json.loads((tmp_path / "result.json").read_text())
    table = report["tables"]["diabetes"]
    assert table["num_rows"] == 442 and table["minutes"] > 0 and table["settings"]["metric"] == "R²"
    assert table["command"].startswith("nnit train ") and "--target target" in table["command"]
    for region, compared in table["against_direct"].items():
        # two steps teach nothing, 300 steps of direct training do
        assert compared["direct"] > 0.2 > max(compared["nnit"], compared["nested"])
        assert compared["nnit_minus_direct"]["mean"] == pytest.approx(compared["nnit"] - compared["direct"])
        assert len(compared["architectures"]) == 1 and table["regions"][region]["ghn"]["num_episodes"] > 0


def test_the_large_table_is_the_same_every_time():
    frame = california_like(100)
    assert frame.equals(california_like(100)) and len(frame.columns) == 9
    assert frame["MedHouseVal"].between(15_000, 500_000).all()
