"""The pictures of the README show what their sources hold."""

import json
from pathlib import Path

import animate_film
import imageio.v3 as iio
import numpy as np
import plot_method
import plot_parameters
import pytest
import torch
from PIL import Image

from nnit_diffusers import MLP


ROOT = Path(__file__).parents[2]


def test_the_method_shows_every_weight_matrix_and_its_patches():
    network = MLP(16, [24, 8], 4)
    figure = plot_method.draw(network, 8, torch.Generator().manual_seed(0))
    (canvas,) = figure.axes
    shapes = [image.get_array().shape for image in canvas.images]
    all_matrices = [(24, 16), (8, 24), (4, 8)]
    # All of them in training and at the end of denoising, and the first one at two noise levels before.
    assert shapes == [*all_matrices, (24, 16), (24, 16), *all_matrices]
    assert not np.allclose(canvas.images[3].get_array(), canvas.images[4].get_array())
    # White lines between patches of 8: 1 + 2 in the first matrix, 2 in the second, none in the third.
    first, second = 3, 2
    assert len(canvas.lines) == 4 * first + 2 * second


@pytest.fixture
def sources():
    arguments = plot_parameters.Arguments()
    paths = (arguments.evaluation_path, arguments.search_path, arguments.winner_path)
    evaluation, search, winner = (json.loads((ROOT / path).read_text()) for path in paths)
    return evaluation["widths"], search, winner


def test_success_against_parameters_shows_what_was_measured(sources):
    widths, search, winner = sources
    (axes,) = plot_parameters.draw(widths, search, winner).axes
    generated, finalists = [np.column_stack(container.lines[0].get_data()) for container in axes.containers]
    assert generated.tolist() == sorted(
        [part["num_parameters"], 100 * part["nnit"]["mean"]] for part in widths.values()
    )
    assert finalists.tolist() == [
        [row["num_parameters"], 100 * row["confirmation"]["score"]] for row in search["result"]["finalists"]
    ]
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "[82]: 4,190 parameters,\n500 of 500 fresh episodes"
    assert "144,648 parameters" in texts[1] and "35 times" in texts[1]


def test_a_film_becomes_an_animated_picture_of_the_same_length(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (8, 32, 48, 3), dtype=np.uint8)
    iio.imwrite(tmp_path / "film.mp4", frames, fps=20)
    animate_film.animate(tmp_path / "film.mp4", tmp_path / "film.webp")
    with Image.open(tmp_path / "film.webp") as picture:
        assert (picture.n_frames, picture.size) == (4, (48, 32))
        picture.load()
        assert picture.info["duration"] == 100
    with pytest.raises(ValueError, match=r"must end in '\.webp', but received .*film\.gif"):
        animate_film.animate(tmp_path / "film.mp4", tmp_path / "film.gif")
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(ValueError, match=r"must be a film, but received .*text\.mp4"):
        animate_film.animate(tmp_path / "text.mp4", tmp_path / "other.webp")
    assert not (tmp_path / "other.webp").exists()
