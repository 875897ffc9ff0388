"""Scores networks that are trained one by one, without a hypernetwork.

    python benchmarks/train_directly.py --task stackcube-easy \
        --data_dir outputs/stackcube-easy/demonstrations --architectures 64-64 256 \
        --output_path docs/measurements/stackcube-easy_direct.json

The scores show which architectures can solve a task at all, and so which ones a training grid should contain. With
`--pretrained_model_name_or_path`, generated networks of the same shapes run in the same episodes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import tyro
from diffusers.optimization import get_cosine_schedule_with_warmup
from tqdm.auto import trange
from training_cost import sgd_step

from nnit_diffusers import MLP, NNiTPipeline, Task, evaluate
from nnit_diffusers.evaluation import wilson_interval
from nnit_diffusers.folding import fold_observation_statistics
from nnit_diffusers.markdown import markdown_table
from nnit_diffusers.provenance import provenance
from nnit_diffusers.tasks import load_task
from nnit_diffusers.writing import write_json


@dataclass
class Arguments:
    """Trains networks one by one and scores them."""

    architectures: tuple[str, ...]
    """Hidden sizes of each architecture, such as 64-64."""
    output_path: str
    """JSON file to write."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    data_dir: str | None = None
    """Folder of the task's data or demonstrations, or where to download them, if the task needs any."""
    sgd_seeds: tuple[int, ...] = (0, 1, 2)
    """Seed of each training run of an architecture."""
    train_batch_size: int = 256
    """Samples per step."""
    max_train_steps: int = 6000
    """Optimisation steps of Adam."""
    learning_rate: float = 3e-3
    """Peak learning rate, with cosine decay."""
    num_episodes: int | None = None
    """Episodes or samples per network; the task's own number by default."""
    split: Literal["validation", "test"] = "validation"
    """Data split to score on."""
    episode_seed: int = 0
    """Seed that chooses the episodes."""
    pretrained_model_name_or_path: str | None = None
    """Pipeline whose networks of the same shapes are scored beside them, as many as there are training runs."""
    num_inference_steps: int | None = None
    """Denoising steps of these. Default: those of the pipeline."""


def hidden_sizes_of(name: str) -> list[int]:
    """`"64-64"` as `[64, 64]`.

    Raises:
        `ValueError`: If the name is not a list of integers joined by hyphens.
    """
    try:
        return [int(size) for size in name.split("-")]
    except ValueError as error:
        raise ValueError(f"`architectures` must be hidden sizes such as '64-64', but received {name!r}.") from error


def train(task: Task, hidden_sizes: list[int], seed: int, arguments: Arguments) -> tuple[MLP, float]:
    """A trained network that takes raw inputs, and its mean loss over the last 100 steps."""
    # train on standardised inputs
    torch.manual_seed(seed)
    network = MLP.from_architecture(task.regions.architecture(hidden_sizes))
    optimizer = torch.optim.Adam(network.parameters(), lr=arguments.learning_rate)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, arguments.max_train_steps)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in trange(arguments.max_train_steps, desc=f"{hidden_sizes}, seed {seed}", leave=False):
        losses.append(sgd_step(task, network, optimizer, arguments.train_batch_size, generator).item())
        schedule.step()
    # fold the standardisation into the first layer
    folded = fold_observation_statistics(network.state_dict(), task.observation_mean, task.observation_std)
    network.load_state_dict(folded)
    last = losses[-100:]
    return network, sum(last) / len(last)


def score(networks: Sequence[MLP], task: Task, arguments: Arguments) -> dict[str, Any]:
    """Score of networks of one architecture, over all of them and of each."""
    results = evaluate(
        networks,
        task.for_screening(),
        arguments.num_episodes,
        split=arguments.split,
        seed=arguments.episode_seed,
        progress_bar=False,
    )
    successes, episodes = (sum(getattr(r, field) for r in results) for field in ("num_successes", "num_episodes"))
    return {
        "score": successes / episodes,
        "interval": list(wilson_interval(successes, episodes)),
        "num_episodes": episodes,
        "scores": [result.score for result in results],
    }


def measure(task: Task, name: str, arguments: Arguments, pipe: NNiTPipeline | None) -> dict[str, Any]:
    """Scores of all training runs of one architecture, and of as many generated networks."""
    hidden_sizes = hidden_sizes_of(name)
    trained = [train(task, hidden_sizes, seed, arguments) for seed in arguments.sgd_seeds]
    networks, losses = zip(*trained)
    architecture = networks[0].architecture
    row = {"num_parameters": architecture.num_parameters, **score(networks, task, arguments), "losses": list(losses)}
    if pipe is not None:
        generated = pipe(
            arch=hidden_sizes,
            num_networks=len(networks),
            num_inference_steps=arguments.num_inference_steps,
            generator=torch.Generator().manual_seed(arguments.episode_seed),
        ).networks
        row["generated"] = score(generated, task, arguments)
    return row


def main(arguments: Arguments) -> None:
    task = load_task(arguments.task, arguments.data_dir)
    pipe = None
    if arguments.pretrained_model_name_or_path is not None:
        pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
        pipe.set_progress_bar_config(disable=True)
    # train and score, one architecture after another
    report = {
        "what": "Networks trained one by one, without a hypernetwork: score over all seeds, its 95% Wilson interval, "
        "the score of every seed, and the mean training loss over the last 100 steps. `generated`: the same of "
        "generated networks, in the same episodes.",
        "arguments": asdict(arguments),
        **provenance(),
        "architectures": {},
    }
    for name in arguments.architectures:
        report["architectures"][name] = measure(task, name, arguments, pipe)
        write_json(arguments.output_path, report)
    # print
    rows = [
        (
            name,
            f"{row['num_parameters']:,}",
            *([_percent(row["generated"])] if pipe is not None else []),
            _percent(row),
            f"{min(row['losses']):.4f}",
        )
        for name, row in report["architectures"].items()
    ]
    generated = ("Generated",) if pipe is not None else ()
    print(markdown_table(("Hidden sizes", "Parameters", *generated, "Trained directly", "Minimum loss"), rows))


def _percent(row: dict[str, Any]) -> str:
    return f"{row['score']:.1%} ({row['interval'][0]:.1%} to {row['interval'][1]:.1%})"


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
