"""Turns a film into an animated picture, which a README shows where it cannot play a video.

python examples/figures/animate_film.py nnit/pickcube/rollout.mp4 docs/images/pickcube.webp
"""

import io
import sys
from pathlib import Path

import imageio.v3 as iio
from PIL import Image

from nnit_diffusers.utils import write_bytes


# Every second frame is enough to follow the arm, and halves the file.
FRAME_STEP = 2
QUALITY = 60


def animate(film_path: str | Path, output_path: str | Path) -> None:
    """Writes the film as an animated WebP that plays at its own speed, forever.

    Raises:
        `ValueError`: If `output_path` does not end in `.webp`.
    """
    if Path(output_path).suffix != ".webp":
        raise ValueError(f"`output_path` must end in '.webp', but received {str(output_path)!r}.")
    frames_per_second = iio.immeta(film_path)["fps"]
    frames = [Image.fromarray(frame) for frame in iio.imread(film_path)[::FRAME_STEP]]
    milliseconds = round(1000 * FRAME_STEP / frames_per_second)
    content = io.BytesIO()
    frames[0].save(
        content,
        format="WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=milliseconds,
        loop=0,
        quality=QUALITY,
        method=6,
    )
    write_bytes(output_path, content.getvalue())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: animate_film.py FILM.mp4 OUTPUT.webp")
    animate(*sys.argv[1:])
