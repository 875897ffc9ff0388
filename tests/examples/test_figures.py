"""The scripts of `examples/figures/`."""

from dataclasses import replace

import plot_evaluation
import plot_weights
import pytest
import torch
from matplotlib.image import imread


def test_pictures_are_written_to_the_folder_of_the_evaluation_by_default(rollouts_path, tmp_path, capsys):
    path = tmp_path / "evaluation.json"
    path.write_text(rollouts_path.read_text())
    plot_evaluation.main(plot_evaluation.Arguments(str(path)))
    assert {file.name for file in tmp_path.iterdir()} == {"evaluation.json", "regions.png"}
    assert "regions.png" in capsys.readouterr().out


@pytest.fixture
def weights_arguments(digits_pipeline_folder, tmp_path):
    return plot_weights.Arguments(
        str(digits_pipeline_folder),
        output_dir=str(tmp_path),
        widths=(16, 20),
        num_networks=2,
        num_train_steps=2,
    )


def test_the_picture_of_weights_has_a_map_for_every_network(weights_arguments):
    matrices = plot_weights.make_matrices(weights_arguments)
    shapes = {name: list(matrix.shape) for name, matrix in matrices.items()}
    assert shapes == {
        "ghn.16": [2, 16, 16],
        "sgd.16": [2, 16, 16],
        "ghn.20": [2, 20, 20],
        "sgd.20": [2, 20, 20],
    }
    figure = plot_weights.draw(matrices, weights_arguments.widths)
    # One more axes for the colour scale.
    assert sum(len(axes.images) for axes in figure.axes) == 8 and len(figure.axes) == 9


def test_the_picture_of_weights_is_written(weights_arguments, tmp_path):
    plot_weights.main(weights_arguments)
    assert imread(tmp_path / "weights.png").std() > 0.05


def test_sgd_trains_every_network_from_an_initialisation_of_its_own(digits, weights_arguments):
    architecture = digits.regions.architecture([16, 16])
    untrained = plot_weights.train(digits, architecture, replace(weights_arguments, num_train_steps=0))
    trained = plot_weights.train(digits, architecture, replace(weights_arguments, num_train_steps=60))
    assert not torch.equal(untrained["0.weight"][0], untrained["0.weight"][1])
    inputs, labels = digits.data("train")
    standardised = (inputs - digits.observation_mean) / digits.observation_std
    losses = [
        digits.loss(plot_weights.batched_forward(stacked, standardised), labels) for stacked in (untrained, trained)
    ]
    assert (losses[1] < 0.6 * losses[0]).all()
