import pytest
import torch
from safetensors.torch import save_file

from nnit_diffusers import get_task


def write_demonstrations(folder, **shards):
    """Writes files of 40 samples each; all actions of a file have the value given for it."""
    generator = torch.Generator().manual_seed(0)
    for number, value in shards.items():
        observations = torch.randn(40, 35, generator=generator)
        observations[:, 3] = 2.0
        tensors = {"observations": observations, "actions": torch.full((40, 8), value)}
        save_file(tensors, folder / f"demonstrations-{number}.safetensors")


@pytest.fixture
def task(tmp_path):
    write_demonstrations(tmp_path, a=0.0, b=1.0)
    return get_task("pushcube", data_dir=tmp_path)


def test_demonstrations_are_read_from_all_files_in_order_of_their_names(task):
    observations, actions = task.demonstrations
    assert (observations.shape, actions.shape) == ((80, 35), (80, 8))
    assert actions[:, 0].tolist() == [0.0] * 40 + [1.0] * 40
    torch.testing.assert_close(task.observation_mean, observations.mean(dim=0))
    assert task.observation_std[3] == task.min_observation_std
    torch.testing.assert_close(task.observation_std[4:], observations.std(dim=0, correction=0)[4:])


def test_training_batches_depend_on_the_generator_and_keep_actions_with_their_observations(task):
    observations, actions = task.training_batch(100, torch.Generator().manual_seed(3))
    again, _ = task.training_batch(100, torch.Generator().manual_seed(3))
    assert torch.equal(observations, again)
    rows = (observations[:, None] == task.demonstrations[0]).all(dim=-1).float().argmax(dim=1)
    assert torch.equal((rows >= 40).float(), actions[:, 0])
    assert 20 < actions[:, 0].sum() < 80


def test_added_demonstrations_are_drawn_but_do_not_change_the_statistics(task):
    mean = task.observation_mean
    before, _ = task.training_batch(100, torch.Generator().manual_seed(3))
    task.add_demonstrations(torch.full((20, 35), 9.0), torch.full((20, 8), 0.5))
    task.add_demonstrations(torch.full((10, 35), 8.0), torch.full((10, 8), -0.5))
    observations, actions = task.training_batch(1000, torch.Generator().manual_seed(3))
    assert set(actions[:, 0].tolist()) == {0.0, 1.0, 0.5, -0.5}
    assert (observations[actions[:, 0] == 0.5] == 9.0).all()
    assert torch.equal(task.observation_mean, mean)
    # A resumed training run that adds the same samples in the same order draws the same batches.
    resumed = get_task("pushcube", data_dir=task.data_dir)
    assert torch.equal(resumed.training_batch(100, torch.Generator().manual_seed(3))[0], before)
    resumed.add_demonstrations(torch.full((20, 35), 9.0), torch.full((20, 8), 0.5))
    resumed.add_demonstrations(torch.full((10, 35), 8.0), torch.full((10, 8), -0.5))
    assert torch.equal(resumed.training_batch(1000, torch.Generator().manual_seed(3))[0], observations)


def test_the_loss_is_each_networks_own_mean_squared_error(task):
    outputs = torch.randn(3, 5, 8, requires_grad=True)
    actions = torch.randn(5, 8)
    losses = task.loss(outputs, actions)
    expected = torch.stack([torch.nn.functional.mse_loss(output, actions) for output in outputs])
    torch.testing.assert_close(losses, expected)
    losses[1].backward()
    assert (outputs.grad.abs().sum(dim=(1, 2)) > 0).tolist() == [False, True, False]


@pytest.mark.parametrize("has_folder", [True, False])
def test_without_demonstrations_the_error_names_what_collects_them(tmp_path, has_folder):
    task = get_task("stackcube-easy", data_dir=tmp_path if has_folder else None)
    with pytest.raises(
        ValueError,
        match=r"`nnit train`, without a `data_dir`, records the expert.*training\.collect_demonstrations\(task",
    ) as raised:
        _ = task.observation_mean
    assert (str(tmp_path) in str(raised.value)) == has_folder


def test_demonstrations_of_another_task_are_refused(tmp_path):
    write_demonstrations(tmp_path, a=0.0)
    with pytest.raises(ValueError, match=r"'pickcube' must be observations \[N, 42\].*received shapes \[40, 35\]"):
        _ = get_task("pickcube", data_dir=tmp_path).demonstrations


def test_a_file_without_both_tensors_is_refused(tmp_path):
    save_file({"weights": torch.zeros(1)}, tmp_path / "demonstrations-0.safetensors")
    with pytest.raises(ValueError, match="must be a safetensors file of `observations` and `actions`"):
        _ = get_task("pushcube", data_dir=tmp_path).demonstrations


@pytest.mark.parametrize(
    ("name", "in_features", "min_width", "min_depth"),
    [("pushcube", 35, 16, 1), ("pickcube", 42, 16, 1), ("stackcube", 48, 48, 2), ("stackcube-easy", 48, 48, 2)],
)
def test_widths_and_depths_in_training_are_the_documented_ones(name, in_features, min_width, min_depth):
    splits = get_task(name).regions
    assert (splits.in_features, splits.out_features, splits.activation) == (in_features, 8, "relu")
    assert (splits.min_width, splits.max_width) == (min_width, 256)
    assert (splits.min_depth, splits.max_depth) == (min_depth, 3)
