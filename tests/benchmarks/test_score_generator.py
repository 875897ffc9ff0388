import json

import pytest
import score_generator
from score_generator import Arguments, main


@pytest.fixture
def arguments(digits_pipeline_folder, tmp_path):
    return Arguments(
        str(digits_pipeline_folder / "ghn"),
        str(tmp_path / "scores.json"),
        regions=("seen", "deeper"),
        num_architectures=2,
        num_networks=3,
    )


def test_every_architecture_of_every_region_is_scored(arguments, capsys):
    main(arguments)
    with open(arguments.output_path) as file:
        report = json.load(file)
    assert {region: len(section["architectures"]) for region, section in report["regions"].items()} == {
        "seen": 2,
        "deeper": 2,
    }
    for section in report["regions"].values():
        means = [row["mean"] for row in section["architectures"]]
        assert section["mean"] == pytest.approx(sum(means) / 2)
        assert section["interval"][0] <= section["mean"] <= section["interval"][1]
    assert [len(row["hidden_sizes"]) for row in report["regions"]["deeper"]["architectures"]] == [4, 4]
    assert capsys.readouterr().out.count("\n") == 4


def test_nested_slices_have_one_network_of_each_shape_and_no_deeper_ones(arguments, digits_pipeline_folder):
    arguments.model_name_or_path = str(digits_pipeline_folder / "nested")
    main(arguments)
    with open(arguments.output_path) as file:
        regions = json.load(file)["regions"]
    assert list(regions) == ["seen"] and len(regions["seen"]["architectures"]) == 2
    assert regions["seen"]["num_episodes"] == 2 * 360


def test_another_model_is_refused(arguments, digits_pipeline_folder):
    arguments.model_name_or_path = str(digits_pipeline_folder / "transformer")
    with pytest.raises(ValueError, match=r"'GraphHyperNetwork', 'NestedMLP'\].* of a 'NNiTTransformer'"):
        main(arguments)


def test_an_interrupted_run_resumes_with_the_same_result(arguments, monkeypatch):
    main(arguments)
    with open(arguments.output_path) as file:
        complete = json.load(file)["regions"]
    scored = []
    score = score_generator.score

    def interrupted(*args):
        scored.append(args)
        if len(scored) == 3:
            raise KeyboardInterrupt
        return score(*args)

    monkeypatch.setattr(score_generator, "score", interrupted)
    arguments.output_path += ".again"
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    main(arguments)
    assert len(scored) == 5
    with open(arguments.output_path) as file:
        assert json.load(file)["regions"] == complete


def test_scores_made_with_other_arguments_are_not_added_to(arguments):
    main(arguments)
    arguments.num_networks = 2
    with pytest.raises(ValueError, match=r"same settings.*differs in \['num_networks'\]"):
        main(arguments)
