"""Generates a robot policy with an architecture never trained on, runs it in ManiSkill3 and films it.

    make demo

The policy picks up cubes. It has two hidden layers of 128 and 256 units: each width was seen in training, but never
the two together. Where the simulator cannot run, the script prints what to install and runs the digits demo instead.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import demo
import torch
from matplotlib.figure import Figure

from nnit_diffusers import NNiTPipeline, evaluate, get_task
from nnit_diffusers.tasks.maniskill import ManiSkillTask, NoVulkanDeviceError, check_simulator
from nnit_diffusers.tasks.maniskill.video import record_video
from nnit_diffusers.tasks.simulation.seeds import episode_seeds


ARCHITECTURE = [128, 256]
NUM_FILMED = 4


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--pipeline", default="nnit/pickcube", help="folder of the pipeline")
    parser.add_argument("--digits_pipeline", default="nnit/digits", help="folder of the pipeline of the digits demo")
    parser.add_argument("--task", default="pickcube", help="robot task of the pipeline")
    parser.add_argument("--output_dir", default="demo", help="folder for the video and the picture")
    parser.add_argument("--num_episodes", type=int, default=50, help="test episodes to score the policy on")
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args(arguments)
    if not (Path(parsed.pipeline) / "model_index.json").is_file():
        parser.error(f"there is no pipeline in {parsed.pipeline!r}: run this script from the root of the checkout")
    return parsed


def show_policy(parsed: argparse.Namespace, task: ManiSkillTask) -> None:
    """Generates, scores, films and draws one policy."""
    # generate
    pipe = NNiTPipeline.from_pretrained(parsed.pipeline)
    pipe.set_progress_bar_config(desc="Generating", leave=False)
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(parsed.seed)
    (policy,) = pipe(arch=ARCHITECTURE, generator=generator).networks
    region = task.regions.region_of(ARCHITECTURE).replace("_", " ")
    print(
        f"Generated a policy with hidden layers {ARCHITECTURE} ({region}; {policy.architecture.num_parameters:,} "
        f"parameters) in {time.perf_counter() - start:.1f} s"
    )
    # score
    (result,) = evaluate([policy], task, num_episodes=parsed.num_episodes, seed=parsed.seed)
    low, high = result.confidence_interval
    print(
        f"{task.env_id}: success in {result.num_successes} of {result.num_episodes} episodes, {result.score:.0%} "
        f"({100 * low:.0f} to {100 * high:.0f}); success at episode end in {result.metrics['success_at_end']:.0%}"
    )

    # film the first episodes
    output_dir = Path(parsed.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    filmed = record_video(
        policy, task, output_dir / "rollout.mp4", episode_seeds("test", parsed.seed, parsed.num_episodes)[:NUM_FILMED]
    )
    # draw the weights
    figure = Figure(figsize=(10, 6), layout="constrained", dpi=120)
    figure.suptitle("Generated weights, layer by layer (magnitude)", fontsize=12)
    statistics = pipe.tokenizer.config
    magnitudes = demo.weight_magnitudes(policy, statistics.observation_mean, statistics.observation_std)
    demo.draw_weights(figure, {f"{ARCHITECTURE} – {region}": magnitudes})
    figure.savefig(output_dir / "weights.png")
    successes = sum(episode.success_once for episode in filmed)
    print(
        f"\nWrote {output_dir / 'rollout.mp4'} (the first {len(filmed)} episodes, {successes} with success) and "
        f"{output_dir / 'weights.png'}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parsed = parse_arguments(arguments)
    try:
        check_simulator()
    except (ImportError, NoVulkanDeviceError) as error:
        print(f"{error}\n\nRunning the digits demo instead:\n")
        demo.main(["--pipeline", parsed.digits_pipeline, "--output", str(Path(parsed.output_dir) / "digits.png")])
        return
    task = get_task(parsed.task)
    if not isinstance(task, ManiSkillTask):
        raise ValueError(f"`task` must be a robot task, but received {parsed.task!r}.")
    try:
        show_policy(parsed, task)
    finally:
        task.close()


if __name__ == "__main__":
    main()
