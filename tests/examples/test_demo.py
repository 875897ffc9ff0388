import re

import pytest
from demo import MAX_PARAMETERS, REQUESTS, generate, main
from matplotlib.image import imread

from nnit_diffusers import NNiTPipeline, evaluate


@pytest.fixture(scope="module")
def outcomes(digits_pipeline_folder, digits):
    pipe = NNiTPipeline.from_pretrained(digits_pipeline_folder)
    pipe.set_progress_bar_config(disable=True)
    return generate(pipe, digits, num_networks=3, seed=0)


def test_the_demo_prints_a_row_for_every_request_and_writes_a_picture(digits_pipeline_folder, tmp_path, capsys):
    picture = tmp_path / "made" / "digits.png"
    main(["--pipeline", str(digits_pipeline_folder), "--output", str(picture), "--num_networks", "2"])
    header, *rows = capsys.readouterr().out.splitlines()
    assert re.split("  +", header)[3:5] == ["mean accuracy", "best by validation"]
    assert [re.split("  +", row)[1] for row in rows[: len(REQUESTS)]] == list(REQUESTS)
    assert all(re.search(r"\d\.\d% \(\d+\.\d to \d+\.\d\) +\d+\.\d% +\d+ ms$", row) for row in rows[: len(REQUESTS)])
    pixels = imread(picture)
    assert pixels.shape[1] >= 1200 and pixels.std() > 0.1


def test_architectures_are_of_the_named_regions(outcomes, digits):
    regions = {
        name: {digits.regions.region_of(network.architecture.hidden_sizes) for network in outcome.networks}
        for name, outcome in outcomes.items()
    }
    assert regions["held-out combination"] == {"held_out_combinations"}
    assert regions["held-out widths"] == {"held_out_widths"}
    assert regions["deeper than trained"] == {"deeper"}


def test_the_budget_holds(outcomes):
    networks = outcomes["shape left to the model"].networks
    assert max(network.architecture.num_parameters for network in networks) <= MAX_PARAMETERS


def test_scores_are_of_test_data_and_the_best_is_chosen_on_validation_data(outcomes, digits):
    for outcome in outcomes.values():
        assert outcome.results == evaluate(outcome.networks, digits, split="test")
        validation = [result.score for result in evaluate(outcome.networks, digits, split="validation")]
        assert validation[outcome.best] == max(validation)


def test_a_missing_pipeline_is_reported_with_its_folder_and_a_fix(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--pipeline", str(tmp_path / "nothing")])
    message = capsys.readouterr().err
    assert f"there is no pipeline in '{tmp_path / 'nothing'}'" in message
    assert "root of the checkout" in message
