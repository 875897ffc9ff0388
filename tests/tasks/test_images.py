import pytest
import torch

from nnit_diffusers.tasks.images import random_affine


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_zero_amounts_leave_images_unchanged():
    images = torch.rand(5, 8, 8, generator=generator())
    moved = random_affine(images, generator(), max_shift=0, max_degrees=0, max_scaling=0)
    torch.testing.assert_close(moved, images, atol=1e-5, rtol=0)


def test_shifts_are_uniform_in_pixels_and_in_both_directions():
    images = torch.zeros(400, 9, 9)
    images[:, 4, 4] = 1.0
    moved = random_affine(images, generator(), max_shift=2.0, max_degrees=0, max_scaling=0)
    # Bilinear interpolation keeps the mass and its centre.
    torch.testing.assert_close(moved.sum(dim=(1, 2)), torch.ones(400), atol=1e-4, rtol=0)
    pixels = torch.arange(9.0) - 4
    for shifts in (moved.sum(dim=1) @ pixels, moved.sum(dim=2) @ pixels):
        assert -2.001 < shifts.min() < -1.9
        assert 1.9 < shifts.max() < 2.001
        assert shifts.std() == pytest.approx(2 / 3**0.5, rel=0.1)


def test_rotations_and_scalings_stay_in_range_and_keep_the_centre():
    rows, columns = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    bar = ((rows.abs() < 2) & (columns.abs() < 10)).float()
    moved = random_affine(bar.repeat(300, 1, 1), generator(), max_shift=0, max_degrees=12, max_scaling=0.1)
    mass = moved.sum(dim=(1, 2))
    variance_x, variance_y = ((moved * axis**2).sum(dim=(1, 2)) / mass for axis in (columns, rows))
    covariance = (moved * columns * rows).sum(dim=(1, 2)) / mass
    degrees = torch.rad2deg(0.5 * torch.atan2(2 * covariance, variance_x - variance_y))
    assert 11 < degrees.abs().max() < 12.5
    assert degrees.min() < 0 < degrees.max()
    area = mass / bar.sum()
    assert 0.9**2 * 0.95 < area.min() < 0.9
    assert 1.1 < area.max() < 1 / 0.9**2 * 1.05
    assert ((moved * columns).sum(dim=(1, 2)) / mass).abs().max() < 0.05


def test_every_image_moves_by_its_own_amount_and_the_generator_decides():
    images = torch.rand(1, 8, 8, generator=generator()).repeat(4, 1, 1)
    moved = random_affine(images, generator(1))
    assert torch.equal(moved, random_affine(images, generator(1)))
    assert not torch.equal(moved, random_affine(images, generator(2)))
    assert all(not torch.equal(moved[0], other) for other in moved[1:])
