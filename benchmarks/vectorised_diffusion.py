"""Diffusion over flattened weights, the other baseline of the paper: trained and evaluated as a pipeline was.

    python benchmarks/vectorised_diffusion.py --task digits --pretrained_model_name_or_path nnit/digits \
        --output_dir outputs/digits_vectors --output_path docs/measurements/digits_vectors.json

The transformer has the size, the networks of the same hypernetwork, the steps and the losses of the pipeline's recipe,
tuning by what networks compute included. It differs in one thing: networks are vectors, not patches of matrices. It is
evaluated on the same architectures. Where policies are tuned, `--dagger_dir` is the folder of the hypernetwork's run,
whose rounds of DAgger the pipeline was tuned on. The same command resumes an interrupted run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from vector_tokenizer import VectorTokenizer, vectors_of

from nnit_diffusers import GraphHyperNetwork, NNiTPipeline, NNiTTransformer, WeightPatchTokenizer
from nnit_diffusers.evaluation.config import EvaluationConfig
from nnit_diffusers.evaluation.pipeline import evaluate_pipeline
from nnit_diffusers.evaluation.tables import regions_table
from nnit_diffusers.models.patches import WeightPatchBatch
from nnit_diffusers.regions import REGIONS, RegionName
from nnit_diffusers.tasks import Task, load_task
from nnit_diffusers.tasks.imitation import ImitationTask
from nnit_diffusers.training.config import NNiTTrainingConfig
from nnit_diffusers.training.dagger import add_round, round_path
from nnit_diffusers.training.recipe import Recipe
from nnit_diffusers.training.transformer import NNiTTrainer
from nnit_diffusers.training.transformer_losses import element_weights


@dataclass
class Arguments:
    """Trains diffusion over flattened weights as a pipeline was trained."""

    pretrained_model_name_or_path: str
    """The pipeline whose recipe and hypernetwork are used: a folder or a Hub repository."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    data_dir: str | None = None
    """Folder of the task's data or demonstrations, if it reads any."""
    dagger_dir: str | None = None
    """Folder with the rounds of DAgger of the hypernetwork's run, if there were any."""
    output_dir: str = "outputs/vectors"
    """Folder of both training runs."""
    output_path: str = "outputs/vectors.json"
    """JSON file of the evaluation."""
    regions: tuple[RegionName, ...] = REGIONS
    """Regions to evaluate."""
    max_train_steps: int | None = None
    """Steps of the first run, and a quarter of them for tuning; those of the recipe by default."""
    num_networks: int | None = None
    """Networks of each architecture; as many as in the recipe by default."""
    num_architectures: int | None = None
    """Architectures of each region; as many as in the recipe by default."""


class VectorTrainer(NNiTTrainer):
    """Trains on vectors."""

    def _create_tokenizer(self) -> VectorTokenizer:
        # scales by the role of a layer, as a pipeline has them
        patches = super()._create_tokenizer()
        return VectorTokenizer(**{name: value for name, value in patches.config.items() if not name.startswith("_")})

    def element_weights(self, batch: WeightPatchBatch) -> torch.Tensor:
        # all layers of a network count equally, as they do in patches
        patches = WeightPatchTokenizer.from_config(self.tokenizer.config).layout(batch.architectures)
        weights = element_weights(patches, self.config.bias_loss_weight)
        return vectors_of(weights, batch).to(batch.patches.device)

    def save(self, folder: Path) -> None:
        self.trained.save_pretrained(folder / "transformer")


def train(task: Task, ghn: GraphHyperNetwork, recipe: Recipe, output_dir: Path) -> NNiTPipeline:
    """Both runs of the transformer, as in a recipe."""
    pipe = run(task, ghn, recipe.nnit, output_dir / "transformer")
    if recipe.tuning is None:
        return pipe
    return run(task, ghn, recipe.tuning, output_dir / "tuning", pipe.transformer)


def run(
    task: Task,
    ghn: GraphHyperNetwork,
    config: NNiTTrainingConfig,
    output_dir: Path,
    pretrained: NNiTTransformer | None = None,
) -> NNiTPipeline:
    """One run, resumed if it was interrupted, and validated once."""
    config = replace(
        config, resume_from_checkpoint="latest", validation_steps=config.max_train_steps, push_to_hub=False
    )
    trainer = VectorTrainer(task, ghn, config, output_dir, pretrained)
    trainer.run()
    trainer.trained.eval()
    return trainer.pipeline


def add_rounds(task: Task, recipe: Recipe, dagger_dir: str | None) -> None:
    """Adds the rounds of DAgger that the pipeline was tuned on to the data.

    Raises:
        `ValueError`: If it was tuned on rounds, and there is no folder of them.
    """
    if not recipe.ghn.dagger_steps or recipe.tuning is None:
        return
    if dagger_dir is None:
        raise ValueError(f"`dagger_dir` must have the rounds of steps {recipe.ghn.dagger_steps}, but received None.")
    assert isinstance(task, ImitationTask)
    for step in recipe.ghn.dagger_steps:
        add_round(task, round_path(Path(dagger_dir), step))


def main(arguments: Arguments) -> None:
    options: dict[str, Any] = {} if arguments.data_dir is None else {"data_dir": arguments.data_dir}
    task = load_task(arguments.task, **options)
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    assert pipe.ghn is not None
    recipe = Recipe.from_pretrained(arguments.pretrained_model_name_or_path)
    add_rounds(task, recipe, arguments.dagger_dir)
    if arguments.max_train_steps is not None:
        tuned = None if recipe.tuning is None else {"max_train_steps": max(1, arguments.max_train_steps // 4)}
        recipe = recipe.with_overrides({"nnit": {"max_train_steps": arguments.max_train_steps}, "tuning": tuned})
    vectors = train(task, pipe.ghn, recipe, Path(arguments.output_dir))
    # the same architectures, and as many networks
    config: EvaluationConfig = replace(recipe.evaluation, sections=("regions",), regions=arguments.regions)
    config.num_networks = arguments.num_networks or config.num_networks
    config.num_architectures = arguments.num_architectures or config.num_architectures
    with torch.inference_mode():
        report = evaluate_pipeline(vectors, task, arguments.output_path, config)
    print(regions_table(report["regions"], report["settings"]).replace("NNiT", "Vectors"))


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
