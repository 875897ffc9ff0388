"""Turns a film into an animated picture, which a README shows where it cannot play a video.

python examples/figures/animate_film.py nnit/pickcube/rollout.mp4 docs/images/pickcube.webp
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg

from nnit_diffusers.writing import write_bytes


# Every second frame is enough to follow the arm, and halves the file.
FRAME_STEP = 2
QUALITY = 60


def animate(film_path: str | Path, output_path: str | Path) -> None:
    """Writes the film as an animated WebP that plays at its own speed, forever.

    Raises:
        `ValueError`: If `output_path` does not end in `.webp`, or ffmpeg cannot read the film.
    """
    if Path(output_path).suffix != ".webp":
        raise ValueError(f"`output_path` must end in '.webp', but received {str(output_path)!r}.")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "film.webp")
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", film_path]
        command += ["-filter:v", f"framestep={FRAME_STEP}", "-loop", "0", "-quality", str(QUALITY), picture]
        process = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if process.returncode:
            raise ValueError(f"`film_path` must be a film, but received {str(film_path)!r}: {process.stderr.strip()}")
        write_bytes(output_path, picture.read_bytes())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: animate_film.py FILM.mp4 OUTPUT.webp")
    animate(*sys.argv[1:])
