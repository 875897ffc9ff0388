"""The script that makes the folder of a Hub repository from the output of the training scripts."""

import json
import shutil
from dataclasses import replace

import build_hub_repo
import pytest
from build_hub_repo import Arguments, training_records

from nnit_diffusers import NNiTPipeline


@pytest.fixture
def trained(digits_pipeline_folder, tmp_path):
    """Output of the training scripts."""
    shutil.copytree(digits_pipeline_folder, tmp_path / "nnit" / "pipeline")
    (tmp_path / "ghn").mkdir()
    arguments = {"ghn_name_or_path": str(tmp_path / "ghn" / "ghn"), "pretrained_model_name_or_path": None, "seed": 0}
    record = {"arguments": arguments}
    for name in ("nnit", "ghn"):
        (tmp_path / name / "training.json").write_text(json.dumps(record))
    return tmp_path / "nnit" / "pipeline"


def test_the_folder_has_weights_records_and_after_the_evaluation_a_card(trained, evaluation_path, tmp_path, capsys):
    repo = tmp_path / "repo"
    arguments = Arguments(repo_dir=str(repo), pipeline_dir=str(trained), model_id="me/digits")
    build_hub_repo.main(arguments)
    names = {path.name for path in repo.iterdir()}
    assert {"training_ghn.json", "training_nnit.json", "pipeline.py", "model_index.json"} <= names
    assert "README.md" not in names
    assert "evaluate_nnit.py" in capsys.readouterr().out
    # the second call only writes the card
    shutil.copyfile(evaluation_path, repo / "evaluation.json")
    build_hub_repo.main(replace(arguments, pipeline_dir=None))
    assert 'from_pretrained("me/digits")' in (repo / "README.md").read_text()
    assert names | {"evaluation.json", "README.md"} == {path.name for path in repo.iterdir()}


def test_optional_components_can_be_left_out(trained, tmp_path):
    repo = tmp_path / "repo"
    arguments = Arguments(repo_dir=str(repo), pipeline_dir=str(trained))
    build_hub_repo.main(arguments)
    assert NNiTPipeline.from_pretrained(repo).nested is not None
    build_hub_repo.main(replace(arguments, pipeline_dir=None, leave_out=("nested",)))
    pipe = NNiTPipeline.from_pretrained(repo)
    assert pipe.nested is None and pipe.ghn is not None and not (repo / "nested").exists()


def test_a_pipeline_without_a_training_record_is_refused(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "pipeline")
    with pytest.raises(ValueError, match="`training.json` beside it, but received .*pipeline'"):
        build_hub_repo.main(Arguments(repo_dir=str(tmp_path / "repo"), pipeline_dir=str(tmp_path / "pipeline")))
    assert not (tmp_path / "repo").exists()


def test_both_training_runs_of_a_tuned_transformer_are_recorded(trained, tmp_path):
    """The weights are the same here; only the record names the pipeline that the training run started from."""
    record = json.loads((trained.parent / "training.json").read_text())
    record["arguments"]["pretrained_model_name_or_path"] = str(trained)
    shutil.copytree(trained, tmp_path / "tuned" / "pipeline")
    (tmp_path / "tuned" / "training.json").write_text(json.dumps(record))
    records = training_records(tmp_path / "tuned" / "pipeline")
    assert set(records) == {"training_ghn.json", "training_nnit.json", "training_tuning.json"}
    started_from = {name: record["arguments"]["pretrained_model_name_or_path"] for name, record in records.items()}
    assert started_from["training_nnit.json"] is None
    assert started_from["training_tuning.json"] == str(trained)
