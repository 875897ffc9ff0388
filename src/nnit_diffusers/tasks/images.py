"""The base of image tasks, which augments training images by small random shifts, rotations and scalings."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .classification import ClassificationTask
from .metadata import Features


def random_affine(
    images: torch.Tensor,
    generator: torch.Generator,
    max_shift: float = 1.0,
    max_degrees: float = 8.0,
    max_scaling: float = 0.05,
) -> torch.Tensor:
    """Shifts, rotates and scales every image of a batch by its own uniformly random amounts.

    Parameters:
        images (`torch.Tensor`): `[N, S, S]`.
        generator (`torch.Generator`): Source of randomness, on the CPU.
        max_shift (`float`, defaults to 1.0): Largest shift along each axis in pixels, in both directions.
        max_degrees (`float`, defaults to 8.0): Largest rotation in degrees, in both directions.
        max_scaling (`float`, defaults to 0.05): Largest change of scale: 0.1 draws from 0.9 to 1.1.

    Returns:
        `torch.Tensor`: `[N, S, S]`; pixels from outside the image are 0.
    """
    # draw the amounts
    num_images, size, _ = images.shape
    shift_x, shift_y, turn, scaling = torch.rand(4, num_images, generator=generator) * 2 - 1
    angle = turn * math.radians(max_degrees)
    scale = 1 + scaling * max_scaling

    # transform; `affine_grid` measures shifts in half image sizes
    pixels = 2 * max_shift / size
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta_N23 = torch.stack([cos, -sin, shift_x * pixels, sin, cos, shift_y * pixels], dim=1).view(num_images, 2, 3)
    grid = F.affine_grid(theta_N23, [num_images, 1, size, size], align_corners=False)
    return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


class ImageTask(ClassificationTask):
    """Square greyscale images, flattened row by row; training adds [`random_affine`] and noise.

    Attributes:
        image_size (`int`): Height and width in pixels.
        max_shift (`float`): Largest shift of the augmentation, in pixels.
        noise_std (`float`, defaults to 0): Standard deviation of the noise added to every pixel, in raw units.
        pixel_range (`str`, defaults to `""`): Lowest and highest value of a pixel, in words.
    """

    hub_task = "image-classification"
    image_size: int
    max_shift: float
    noise_std: float = 0.0
    pixel_range: str = ""

    @property
    def observation_layout(self) -> tuple[Features, ...]:
        return (Features("pixels", self.in_features, self.pixel_range),)

    def augment(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        images = inputs.view(-1, self.image_size, self.image_size)
        moved = random_affine(images, generator, max_shift=self.max_shift).flatten(start_dim=1)
        return moved + self.noise_std * torch.randn(moved.shape, generator=generator)
