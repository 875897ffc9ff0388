"""Trains on 100 recorded episodes of PickCube-v1: alone, and with a teacher beside them that allows DAgger.

    python benchmarks/recorded_episodes.py --output_path docs/measurements/recorded_episodes.json

The scripted expert acts as a user's demonstrator would. ManiSkill's own `RecordEpisode` writes its successful episodes
to an `.h5` file, and `nnit train` does all the rest. Both runs have the same settings, but for the rounds of DAgger.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import tyro
from mani_skill.utils.wrappers import RecordEpisode
from measuring import run_training

from nnit_diffusers.provenance import provenance
from nnit_diffusers.tasks.maniskill.experts import pick_cube
from nnit_diffusers.tasks.simulation.seeds import episode_seeds
from nnit_diffusers.writing import write_json


ENV_ID, CONTROL_MODE = "PickCube-v1", "pd_joint_delta_pos"
TEACHER = "nnit_diffusers.tasks.maniskill.experts:pick_cube"
HELD_OUT = ("held_out_combinations", "held_out_widths")


@dataclass
class Arguments:
    """Records, and trains twice."""

    output_path: str = "outputs/recorded_episodes.json"
    """JSON file to write."""
    work_dir: str = "outputs/recorded_episodes"
    """Folder of the recording and the pipelines."""
    num_episodes: int = 100
    """Successful episodes to record."""
    runs: tuple[str, ...] = ("recorded", "with_dagger")
    """Runs to do."""
    # small networks of one depth, so that both runs take minutes
    settings: tuple[str, ...] = (
        *("--preset", "small", "--widths", "64", "128", "--depths", "2", "2", "--set", "nested=none"),
        *("--set", "ghn.max_train_steps=1500", "--set", "nnit.max_train_steps=400"),
        *("--set", "tuning.max_train_steps=300", "--set", 'evaluation.sections=["regions", "direct"]'),
        *("--set", 'evaluation.regions=["held_out_combinations", "held_out_widths"]'),
        *("--set", "evaluation.num_architectures=5", "--set", "evaluation.num_direct_architectures=1"),
        *("--set", "evaluation.direct_steps=3000"),
    )
    """Further options of `nnit train`."""


def record(folder: Path, num_episodes: int) -> Path:
    """Records successful episodes of the expert, with goals of the split for training."""
    path = folder / "trajectory.h5"
    if path.exists():
        return path
    env = gymnasium.make(ENV_ID, obs_mode="state", control_mode=CONTROL_MODE, sim_backend="physx_cpu")
    recorder = RecordEpisode(env, str(folder), save_video=False, save_on_reset=False, trajectory_name="trajectory")
    num_saved = 0
    for seed in episode_seeds("train", 0, 2 * num_episodes):
        observation, _ = recorder.reset(seed=int(seed))
        is_over = is_success = False
        while not is_over:
            action = np.clip(pick_cube(np.asarray(observation, dtype=np.float32).reshape(1, -1))[0], -1, 1)
            observation, _, _, truncated, info = recorder.step(action)
            is_success = bool(info["success"])
            is_over = is_success or bool(truncated)
        recorder.flush_trajectory(save=is_success)
        num_saved += is_success
        if num_saved == num_episodes:
            break
    recorder.close()
    return path


def train(name: str, recording: Path, work_dir: Path, settings: tuple[str, ...]) -> dict[str, Any]:
    """Trains one pipeline, and summarises its evaluation."""
    folder = work_dir / name
    command = ["nnit", "train", "--env", ENV_ID, "--demonstrations", str(recording), "--output", str(folder)]
    command += [*settings, *(["--teacher", TEACHER] if name == "with_dagger" else [])]
    minutes, report = run_training(command, folder)
    return {
        "command": " ".join(command),
        "minutes": minutes,
        "settings": report["settings"],
        "regions": {
            region: {kind: report["regions"][region][kind] for kind in ("nnit", "ghn")} for region in HELD_OUT
        },
        "direct": report["direct"],
    }


def main(arguments: Arguments) -> None:
    work_dir = Path(arguments.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    recording, results = record(work_dir, arguments.num_episodes), {}
    for name in arguments.runs:
        results[name] = train(name, recording, work_dir, arguments.settings)
        write_json(arguments.output_path, {"arguments": asdict(arguments), "runs": results, **provenance()})
        for region, summaries in results[name]["regions"].items():
            print(f"{name}, {region}: NNiT {summaries['nnit']['mean']:.1%}, GHN {summaries['ghn']['mean']:.1%}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
