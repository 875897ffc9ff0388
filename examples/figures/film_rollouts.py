"""Films generated policies in test episodes: a video as a grid, and a strip with one success and one failure.

    python examples/figures/film_rollouts.py --task pickcube --pretrained_model_name_or_path nnit/pickcube \
        --output_dir outputs/pickcube/film

One policy is filmed for each architecture, in the first test episodes of the seed, whatever their outcome. The last
cell of the grid shows failures, searched for in a bounded number of further episodes. `rollout.json`, written beside
`rollout.mp4` and `rollout.png`, records which episodes are shown and how many were searched.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from nnit_diffusers import MLP, GraphHyperNetwork, NNiTPipeline, Task
from nnit_diffusers.evaluation import wilson_interval
from nnit_diffusers.provenance import provenance
from nnit_diffusers.tasks import load_task
from nnit_diffusers.tasks.maniskill import ManiSkillTask
from nnit_diffusers.tasks.maniskill.environments import ManiSkillEnvironment, make_environment
from nnit_diffusers.tasks.simulation.portable_networks import PortableNetwork, network_policy
from nnit_diffusers.tasks.simulation.rollouts import Episode, EpisodeJob, run_episodes
from nnit_diffusers.tasks.simulation.seeds import episode_seeds
from nnit_diffusers.writing import write_bytes, write_json


STEPS_PER_SECOND = 20
# Frames for which the last frame of an episode is held.
HELD_FRAMES = 12
NUM_COLUMNS = 3
# Codecs require sides that are multiples of 16.
BLOCK = 16
BAND_HEIGHT = 48
# Keeps the Hub repository of a task within 12 MiB.
MAX_BYTES = 3 * 2**18
# Okabe and Ito's colours, which colour-blind readers can distinguish.
RUNNING, SUCCESS, FAILURE = (70, 70, 70), (0, 114, 90), (180, 70, 0)
REGION_NAMES = {
    "seen": "seen in training",
    "held_out_combinations": "held-out combination",
    "held_out_widths": "held-out widths",
    "deeper": "deeper than trained",
    "wider": "wider than trained",
    "narrower": "narrower",
    "shallower": "shallower",
}
NUM_MOMENTS = 6


@dataclass
class Arguments:
    """Films generated policies."""

    output_dir: str
    """Folder for `rollout.mp4`, `rollout.png` and `rollout.json`."""
    task: str = "pickcube"
    """Name of a registered robot task."""
    pretrained_model_name_or_path: str = "nnit/pickcube"
    """Pipeline, a folder or a Hub repository."""
    ghn_name_or_path: str | None = None
    """Film policies of this GHN instead."""
    architectures: tuple[str, ...] = ("64-64", "128-256", "61-102", "64-32-96-48", "16")
    """Hidden layers of the policies, one policy for each."""
    num_inference_steps: int = 20
    """Denoising steps."""
    num_shown: int = 2
    """Episodes of each policy to show, from the first."""
    num_searched: int = 40
    """Episodes of each policy to search for failures, including those shown."""
    frame_size: int = 256
    """Side of each cell in pixels, a multiple of 16."""
    seed: int = 0
    """Seed of networks and episodes."""


@dataclass(frozen=True)
class Clip:
    """A filmed episode: a frame before the first step and one after each step, `[H, W, 3]`.

    `successes` records for every frame whether the task is solved in it.
    """

    hidden_sizes: tuple[int, ...]
    region: str
    number: int
    episode: Episode
    frames: list[np.ndarray]
    successes: list[bool]

    @property
    def first_success(self) -> int | None:
        """Index of the first frame in which the task is solved."""
        return self.successes.index(True) if any(self.successes) else None

    def caption(self, step: int) -> tuple[list[str], tuple[int, int, int]]:
        """Lines of text over a frame, and their background colour."""
        outcome, colour = f"step {min(step, len(self.frames) - 1)}", RUNNING
        if self.first_success is not None and step >= self.first_success:
            outcome, colour = f"success at step {self.first_success}", SUCCESS
        elif step >= len(self.frames) - 1:
            outcome, colour = "failure", FAILURE
        return [f"{list(self.hidden_sizes)} {REGION_NAMES[self.region]}", f"episode {self.number}: {outcome}"], colour

    def describe(self) -> dict[str, Any]:
        return {
            "hidden_sizes": list(self.hidden_sizes),
            "region": self.region,
            "episode": self.number,
            "environment_seed": self.episode.seed,
            "success_once": self.episode.success_once,
            "success_at_end": self.episode.success_at_end,
            "episode_return": self.episode.episode_return,
            "first_successful_step": self.first_success,
        }


def check_arguments(arguments: Arguments, task: Task) -> ManiSkillTask:
    """The task. Raises `ValueError` if it is not a robot task, or for sizes out of range."""
    if not isinstance(task, ManiSkillTask):
        raise ValueError(f"`task` must be a robot task, but received {arguments.task!r}.")
    if arguments.frame_size < BLOCK or arguments.frame_size % BLOCK:
        raise ValueError(f"`frame_size` must be a multiple of {BLOCK}, but received {arguments.frame_size}.")
    if not 1 <= arguments.num_shown <= arguments.num_searched:
        raise ValueError(
            f"`num_shown` must be 1 to `num_searched`, {arguments.num_searched}, but received {arguments.num_shown}."
        )
    return task


def make_policies(arguments: Arguments, task: ManiSkillTask) -> list[MLP]:
    """One policy for each architecture."""
    architectures = [
        task.regions.architecture([int(width) for width in name.split("-")]) for name in arguments.architectures
    ]
    generator = torch.Generator().manual_seed(arguments.seed)
    if arguments.ghn_name_or_path is not None:
        return GraphHyperNetwork.from_pretrained(arguments.ghn_name_or_path).generate(
            architectures, generator=generator
        )
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    pipe.set_progress_bar_config(desc="Generating", leave=False)
    return pipe(architectures, num_inference_steps=arguments.num_inference_steps, generator=generator).networks


def run_policies(policies: Sequence[MLP], task: ManiSkillTask, seeds: Sequence[int]) -> list[list[Episode]]:
    """Runs every policy in every episode, without filming."""
    jobs = [EpisodeJob(seed, PortableNetwork.from_network(policy)) for policy in policies for seed in seeds]
    episodes = task.run(jobs)
    return [episodes[start : start + len(seeds)] for start in range(0, len(episodes), len(seeds))]


def make_camera(task: ManiSkillTask, frame_size: int, folder: str) -> Any:
    """The task's environment in ManiSkill's recorder, which also records whether each frame solves the task."""
    environment = make_environment(
        task.env_id, render_mode="rgb_array", human_render_camera_configs={"width": frame_size, "height": frame_size}
    )
    from mani_skill.utils.wrappers import RecordEpisode

    class Camera(RecordEpisode):
        def step(self, action: Any) -> Any:
            outcome = super().step(action)
            self.successes.append(bool(outcome[-1]["success"]))
            return outcome

    return Camera(environment, folder, save_trajectory=False, save_on_reset=False)


def film(camera: Any, policy: MLP, task: ManiSkillTask, number: int, known: Episode) -> Clip:
    """Films an episode whose outcome is known.

    Raises:
        `RuntimeError`: If the outcome differs, so that the film would not show what was counted.
    """
    # run the episode again, with the camera
    camera.successes = [False]  # before the first step
    (episode,) = run_episodes(ManiSkillEnvironment(camera), [known.seed], network_policy(policy))
    frames = camera.render_images
    camera.flush_video(save=False)
    # check the outcome
    if (episode.success_once, episode.success_at_end) != (known.success_once, known.success_at_end):
        raise RuntimeError(f"A repeated episode must have the same outcome, {known}, but received {episode}.")
    hidden_sizes = policy.architecture.hidden_sizes
    region = task.regions.region_of(hidden_sizes)
    return Clip(tuple(hidden_sizes), region, number, episode, frames, camera.successes)


def labelled(frame: np.ndarray, lines: Sequence[str], colour: tuple[int, int, int]) -> np.ndarray:
    """A frame `[H, W, 3]` under a band of text, `[BAND_HEIGHT + H, W, 3]`."""
    # band above the frame
    image = Image.new("RGB", (frame.shape[1], BAND_HEIGHT + frame.shape[0]), colour)
    image.paste(Image.fromarray(frame), (0, BAND_HEIGHT))
    draw = ImageDraw.Draw(image)
    # text, in the largest size that fits
    for row, line in enumerate(lines):
        size = 15
        while size > 6 and draw.textlength(line, font=ImageFont.load_default(size)) > frame.shape[1] - 12:
            size -= 1
        draw.text((6, 5 + 21 * row), line, fill="white", font=ImageFont.load_default(size))
    return np.asarray(image)


def cell(clip: Clip | None, step: int, frame_size: int, otherwise: Sequence[str]) -> np.ndarray:
    """A cell of the grid at a step; a cell without a clip shows the lines of `otherwise`."""
    if clip is None:
        return labelled(np.full((frame_size, frame_size, 3), 30, np.uint8), otherwise, RUNNING)
    return labelled(clip.frames[min(step, len(clip.frames) - 1)], *clip.caption(step))


def grid_frames(
    rounds: Sequence[Sequence[Clip | None]], frame_size: int, otherwise: Sequence[str]
) -> list[np.ndarray]:
    """Frames of the video: the clips of each round side by side, then those of the next, with last frames held."""
    frames = []
    for clips in rounds:
        num_steps = max(len(clip.frames) for clip in clips if clip is not None) + HELD_FRAMES
        for step in range(num_steps):
            # cells, filled up with black to complete the last row
            cells = [cell(clip, step, frame_size, otherwise) for clip in clips]
            cells += [np.zeros_like(cells[0])] * (-len(cells) % NUM_COLUMNS)
            # rows of the grid
            rows = [np.concatenate(cells[row : row + NUM_COLUMNS], 1) for row in range(0, len(cells), NUM_COLUMNS)]
            frames.append(np.concatenate(rows))
    return frames


def write_video(frames: Sequence[np.ndarray], path: Path) -> None:
    """Writes an mp4 of the highest quality that fits into `MAX_BYTES`.

    Raises:
        `ValueError`: If no quality fits.
    """
    from mani_skill.utils.visualization.misc import images_to_video

    content = b""
    with tempfile.TemporaryDirectory() as folder:
        for quality in (8, 6, 4, 2):
            images_to_video(frames, folder, "rollout", fps=STEPS_PER_SECOND, quality=quality, verbose=False)
            content = (Path(folder) / "rollout.mp4").read_bytes()
            if len(content) <= MAX_BYTES:
                write_bytes(path, content)
                return
    raise ValueError(
        f"`frame_size` and `num_shown` must give a video of at most {MAX_BYTES} bytes, but it has {len(content)}."
    )


def draw_strip(clips: Sequence[Clip]) -> Figure:
    """Draws a row of evenly spaced frames for each clip."""
    figure = Figure(figsize=(1.9 * NUM_MOMENTS, 2.35 * len(clips)), dpi=100, layout="constrained")
    for block, clip in zip(figure.subfigures(len(clips), 1, squeeze=False).flat, clips):
        # title with the outcome
        (name, _), _ = clip.caption(0)
        is_success = clip.first_success is not None
        outcome = f"success at step {clip.first_success}" if is_success else "failure"
        colour = np.array(SUCCESS if is_success else FAILURE) / 255
        block.suptitle(f"{name}: {outcome}", color=colour, fontsize=12)
        # frames
        moments = np.linspace(0, len(clip.frames) - 1, NUM_MOMENTS).round().astype(int)
        for axes, step in zip(block.subplots(1, NUM_MOMENTS), moments):
            axes.imshow(clip.frames[step])
            axes.set_title(f"step {step}", fontsize=9)
            axes.set_axis_off()
    return figure


def first_failures(outcomes: Sequence[Sequence[Episode]], num_shown: int) -> list[tuple[int, int]]:
    """Policy and episode of the first failures among episodes that are not shown; at most `num_shown` of them."""
    failures = [
        (policy, number)
        for number in range(num_shown, len(outcomes[0]))
        for policy, episodes in enumerate(outcomes)
        if not episodes[number].success_once
    ]
    return failures[:num_shown]


def describe_policies(policies: Sequence[MLP], task: ManiSkillTask, outcomes: Any) -> list[dict[str, Any]]:
    rows = []
    for policy, episodes in zip(policies, outcomes):
        num_successes = sum(episode.success_once for episode in episodes)
        rows.append(
            {
                "hidden_sizes": list(policy.architecture.hidden_sizes),
                "region": task.regions.region_of(policy.architecture.hidden_sizes),
                "num_parameters": policy.architecture.num_parameters,
                "num_successes": num_successes,
                "num_episodes": len(episodes),
                "confidence_interval": list(wilson_interval(num_successes, len(episodes))),
            }
        )
    return rows


def describe_film(arguments: Arguments, task: ManiSkillTask, rows: Sequence[dict[str, Any]], num_found: int) -> str:
    """Caption of the film: what was chosen, and from how many episodes."""
    # counts of episodes and failures
    source = "the GHN alone" if arguments.ghn_name_or_path else "the pipeline"
    num_episodes = sum(row["num_episodes"] for row in rows)
    num_failures = num_episodes - sum(row["num_successes"] for row in rows)
    num_further = num_episodes - arguments.num_shown * len(rows)
    # what the last cell shows
    failures = f"the first {num_found} failures" if num_found != 1 else "the first failure"
    last = f"shows {failures} in {num_further} further episodes" if num_found else f"is empty: none in {num_further}"
    return (
        f"{task.env_id}, policies of {source}, one for each architecture (seed {arguments.seed}), in the first "
        f"{arguments.num_shown} test episodes, whatever their outcome. The last cell, for failures, {last}. "
        f"{num_failures} of all {num_episodes} episodes failed."
    )


def film_rounds(
    policies: Sequence[MLP], task: ManiSkillTask, outcomes: Sequence[Sequence[Episode]], arguments: Arguments
) -> list[list[Clip | None]]:
    """For every episode shown: a clip of each policy, and a clip of a failure or `None` where none was found."""
    # As in the worker processes: another order of floating-point sums may change an episode.
    torch.set_num_threads(1)
    failures = first_failures(outcomes, arguments.num_shown)
    rounds: list[list[Clip | None]] = []
    with tempfile.TemporaryDirectory() as folder:
        camera = make_camera(task, arguments.frame_size, folder)
        # one round for each episode shown
        for number in range(arguments.num_shown):
            wanted = [(policy, number) for policy in range(len(policies))] + failures[number : number + 1]
            clips = [film(camera, policies[index], task, which, outcomes[index][which]) for index, which in wanted]
            rounds.append([*clips, *[None] * (len(policies) + 1 - len(clips))])
        camera.close()
    return rounds


def main(arguments: Arguments) -> None:
    # generate policies and run them without filming
    task = check_arguments(arguments, load_task(arguments.task))
    policies = make_policies(arguments, task)
    try:
        outcomes = run_policies(policies, task, episode_seeds("test", arguments.seed, arguments.num_searched))
    finally:
        task.close()
    # film
    rounds = film_rounds(policies, task, outcomes, arguments)

    # report
    clips = [clip for clips in rounds for clip in clips if clip is not None]
    successes = [clip for clip in clips if clip.episode.success_once]
    failures = [clip for clip in clips if not clip.episode.success_once]
    strip = [*successes[:1], *failures[:1]]
    rows = describe_policies(policies, task, outcomes)
    report = {
        "caption": describe_film(arguments, task, rows, len(first_failures(outcomes, arguments.num_shown))),
        "policies": rows,
        "video": [[clip and clip.describe() for clip in clips] for clips in rounds],
        "strip": [clip.describe() for clip in strip],
        "arguments": asdict(arguments),
        **provenance(),
    }
    # write
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    num_further = (arguments.num_searched - arguments.num_shown) * len(policies)
    otherwise = ["no further failure", f"in {num_further} episodes"]
    write_video(grid_frames(rounds, arguments.frame_size, otherwise), output_dir / "rollout.mp4")
    draw_strip(strip).savefig(output_dir / "rollout.png")
    write_json(output_dir / "rollout.json", report)
    print(f"Wrote rollout.mp4, rollout.png and rollout.json to {output_dir}.\n{report['caption']}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
