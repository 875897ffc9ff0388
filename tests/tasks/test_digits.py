import hashlib

import pytest
import torch
from sklearn.datasets import load_digits

from nnit_diffusers.tasks import DATA_SPLITS, get_task


@pytest.fixture(scope="module")
def task():
    return get_task("digits")


def test_every_sample_is_in_exactly_one_split(task):
    rows = [(*inputs.tolist(), int(label)) for split in DATA_SPLITS for inputs, label in zip(*task.data(split))]
    inputs, labels = load_digits(return_X_y=True)
    assert sorted(rows) == sorted((*row.tolist(), int(label)) for row, label in zip(inputs, labels))
    assert [len(task.data(split)[1]) for split in DATA_SPLITS] == [1077, 360, 360]


def test_every_split_has_its_share_of_every_digit(task):
    for split, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        labels = task.data(split)[1]
        for digit, total in enumerate(load_digits().target.tolist().count(digit) for digit in range(10)):
            assert abs(int((labels == digit).sum()) - share * total) < 1.5


def test_the_test_split_is_the_one_of_the_published_results(task):
    inputs, labels = task.data("test")
    pixels = torch.cat([inputs, labels[:, None]], dim=1).to(torch.uint8)
    assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16] == "b075158a53c50fd6"


def test_inputs_are_raw_grey_levels(task):
    inputs, _ = task.data("train")
    assert inputs.min() == 0
    assert inputs.max() == 16
    assert torch.equal(inputs, inputs.round())


def test_training_batches_are_augmented_but_stay_digits_of_the_same_size(task):
    inputs, labels = task.training_batch(256, torch.Generator().manual_seed(0))
    again, _ = task.training_batch(256, torch.Generator().manual_seed(0))
    assert inputs.shape == (256, 64)
    assert labels.shape == (256,)
    assert torch.equal(inputs, again)
    # Pixels stay within the 16 grey levels, up to the noise.
    assert -5 * task.noise_std < inputs.min() < 0
    assert 16 < inputs.max() < 16 + 5 * task.noise_std
    blank = task.data("train")[0].amax(dim=0) == 0
    assert inputs[:, blank].std().item() == pytest.approx(task.noise_std, rel=0.2)
    assert not torch.equal(inputs, inputs.round())
    # No standardised pixel of an augmented image is far outside the range of the test split.
    standardised = (inputs - task.observation_mean) / task.observation_std
    assert standardised.abs().max() < 20


def test_a_network_trained_on_the_batches_recognises_the_validation_digits(task):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        inputs, labels = task.training_batch(128, generator)
        standardised = (inputs - task.observation_mean) / task.observation_std
        loss = task.loss(network(standardised)[None], labels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    inputs, labels = task.data("validation")
    predictions = network((inputs - task.observation_mean) / task.observation_std).argmax(dim=1)
    assert (predictions == labels).float().mean() > 0.9


def test_the_widths_and_depths_of_a_training_run_can_be_chosen(task):
    chosen = task.with_grid(max_width=256, max_depth=6)
    assert chosen.grid == {"min_width": 16, "max_width": 256, "min_depth": 1, "max_depth": 6}
    assert chosen.regions.region_of([16] * 6) != "deeper" == task.regions.region_of([16] * 6)
    with pytest.raises(ValueError, match="1 <= min_width <= max_width, but received 16 and 8"):
        task.with_grid(max_width=8)
    with pytest.raises(ValueError, match=r"`grid` must have names of .* but received \['width'\]"):
        task.with_grid(width=8)


def test_widths_and_depths_in_training_are_the_documented_ones(task):
    assert (task.regions.min_width, task.regions.max_width, task.regions.max_depth) == (16, 64, 3)
    assert (task.regions.in_features, task.regions.out_features, task.regions.activation) == (64, 10, "relu")
