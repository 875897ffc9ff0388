"""Trains a pipeline from start to end: every stage in one call, which resumes where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..cards import draw_pictures, write_card, write_pipeline
from ..cards.folder import RECIPE_NAME, WORK_FOLDER
from ..evaluation.pipeline import evaluate_pipeline, num_parts
from ..loading.local import read_json_object
from ..models.graph_hypernetwork import GraphHyperNetwork
from ..models.nested_mlp import NestedMLP
from ..pipelines import NNiTPipeline
from ..tasks.base import Task, output_settings
from ..tasks.contracts import contract_of
from ..tasks.imitation import ImitationTask
from ..tasks.registry import get_task
from ..tasks.simulation.recordings import convert_recording
from ..tasks.simulation.task import SimulatorTask
from ..tasks.specs import DATA_FOLDER, SPEC_NAME, published_spec
from ..tasks.tables import TableTask
from ..writing import write_json
from .checkpoints import RECORD_NAME
from .checks import check_environment, check_recipe
from .claim import claim
from .config import NNiTTrainingConfig
from .dagger import add_round, round_path
from .demonstrations import collect_demonstrations
from .few_steps import choose_num_steps
from .hypernetwork import train_ghn
from .nested import train_nested
from .progress import RunProgress, Stage, only_this_bar
from .recipe import Recipe, default_preset
from .transformer import train_nnit


# What a run is trained on, in its subfolder.
_DATA_NAME = "data.json"
# The denoising steps that were tried, in its subfolder.
_STEPS_NAME = "steps.json"
# Statistics of the same data on another machine differ by less.
_STATISTICS_TOLERANCE = 1e-3


def train(
    task: Task | str,
    output_dir: str | Path,
    *,
    preset: str | None = None,
    recipe: Recipe | None = None,
    recording: str | Path | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
    **overrides: Mapping[str, Any] | None,
) -> NNiTPipeline:
    """Trains a pipeline for a task, evaluates it, and writes a folder that can be loaded, used and published.

    The stages are: demonstrations of the expert (if the task has one and no data), nested slices as a baseline, the
    hypernetwork, the transformer, its tuning by what networks compute, the evaluation, and the model card with
    pictures. Slices and hypernetwork have rounds of DAgger. The same call, after a kill or on another day, resumes in
    the stage where the run was stopped.

    ```python
    pipe = train("digits", "outputs/digits", preset="small", ghn={"max_train_steps": 1000})
    pipe([48, 40], num_networks=8).networks
    ```

    Parameters:
        task (`Task` or `str`): What the networks are for; see [`get_task`].
        output_dir (`str` or `Path`): Folder of the pipeline. Its subfolder `training` holds all stages.
        preset (`str`, *optional*):
            Size of the run, `"small"`, `"base"` or `"large"`; `"small"` for tables and `"base"` otherwise by default.
        recipe (`Recipe`, *optional*): Settings of all stages; those of the preset by default.
        recording (`str` or `Path`, *optional*):
            Recorded demonstrations of a task in a simulator, in place of its teacher's; see [`read_recording`].
        overwrite (`bool`, defaults to `False`): Remove an earlier run in the folder and begin again.
        show_progress (`bool`, defaults to `True`): Show one progress bar for all stages.
        overrides (`Mapping[str, Any]`):
            Other settings by stage: `demonstrations`, `nested`, `ghn`, `nnit`, `tuning`, `evaluation`. `None` leaves
            out `demonstrations`, `nested` or `tuning`.

    Returns:
        `NNiTPipeline`: The pipeline as it is in `output_dir`, with half-precision weights loaded in single precision.

    Raises:
        `ImportError`: If a package of the extra `training` is missing.
        `ValueError`: If a setting is unknown or out of range, or the folder holds another run.
        `OSError`: If a file cannot be written.
        `FloatingPointError`: If a loss is no longer finite.
    """
    check_environment()
    task = get_task(task) if isinstance(task, str) else task
    recipe = (recipe or Recipe.for_task(task, preset or default_preset(task))).with_overrides(overrides)
    if isinstance(task, ImitationTask):
        # the task of the caller stays as it is
        task = task.separate()
        has_data = task.data_dir is not None or recording is not None
        if has_data and not overrides.get("demonstrations"):
            recipe = recipe.with_overrides({"demonstrations": None})
    check_recipe(task, recipe, recording)
    output_dir = Path(output_dir)
    claim(output_dir, recipe, overwrite)
    run = _Run(task, output_dir, recipe, recording, show_progress)
    with only_this_bar():
        try:
            return run.all_stages()
        finally:
            run.progress.close()


class _Run:
    """The stages of [`train`], each of which skips what is done."""

    def __init__(
        self, task: Task, output_dir: Path, recipe: Recipe, recording: str | Path | None, show_progress: bool
    ) -> None:
        self.task, self.output_dir, self.recipe, self.recording = task, output_dir, recipe, recording
        self.work = output_dir / WORK_FOLDER
        self.progress = RunProgress(self._stages(), show_progress)

    def _stages(self) -> list[Stage]:
        """The stages, with guesses of their durations on two CPU cores."""
        recipe, stages = self.recipe, []
        # networks of tables are small
        scale = 0.4 if isinstance(self.task, TableTask) else 1.0
        if recipe.demonstrations is not None:
            stages.append(Stage("demonstrations", recipe.demonstrations.num_episodes, 0.3))
        if recipe.nested is not None:
            stages.append(Stage("nested slices", recipe.nested.max_train_steps, 0.015))
        stages.append(Stage("hypernetwork", recipe.ghn.max_train_steps, 0.2 * scale))
        stages.append(Stage("transformer", recipe.nnit.max_train_steps, 0.6 * scale))
        if recipe.tuning is not None:
            seconds = 1.4 if recipe.tuning.one_step_loss_weight else 0.7
            stages.append(Stage("tuning", recipe.tuning.max_train_steps, seconds * scale))
        stages.append(Stage("denoising steps", 1, 60 * scale))
        stages.append(Stage("evaluation", num_parts(self.task, recipe.evaluation), 3.0 * scale))
        return stages

    def all_stages(self) -> NNiTPipeline:
        """Runs what is left of every stage."""
        self._demonstrations()
        self._check_data()
        # before training, so that a task that can't be described is noticed now
        contract = None if self._is_published() else contract_of(self.task)
        nested, ghn = self._nested(), self._hypernetwork()
        if self._is_published():
            for stage in ("transformer", "tuning", "denoising steps"):
                self.progress.finish(stage)
        else:
            pipeline = self._transformer(ghn)
            pipeline.register_modules(nested=nested)
            self._number_of_steps(pipeline)
            pipeline.contract = contract
            self._publish(pipeline)
        pipeline = NNiTPipeline.from_pretrained(self.output_dir)
        self._evaluation(pipeline)
        return pipeline

    def _is_published(self) -> bool:
        """Whether training is complete: the index of the pipeline is written last."""
        return (self.output_dir / NNiTPipeline.config_name).is_file()

    def _demonstrations(self) -> None:
        """Records the teacher or converts a recording, and makes the task read it; keeps a copy of a table."""
        if isinstance(self.task, TableTask):
            self.task.copy_source(self.output_dir / DATA_FOLDER)
        config, folder = self.recipe.demonstrations, self.work / "demonstrations"
        if self.recording is not None:
            assert isinstance(self.task, SimulatorTask)
            robot = self.task.environment_spec.env_kwargs.get("robot_uids")
            convert_recording(
                self.recording, folder, self.task.contract, robot_uids=robot if isinstance(robot, str) else None
            )
            self.task.read_from(folder)
        if config is None:
            return
        assert isinstance(self.task, SimulatorTask)
        self.progress.begin("demonstrations")
        collect_demonstrations(self.task, folder, config, on_episodes=partial(self.progress.update, "demonstrations"))
        self.task.read_from(folder)
        self.progress.finish("demonstrations")

    def _check_data(self) -> None:
        """Records what the run is trained on; raises `ValueError` if a resumed run has other data or another grid."""
        task, path = self.task, self.work / _DATA_NAME
        found = {
            "sizes": [task.in_features, task.out_features],
            "grid": task.grid,
            "observation_mean": task.observation_mean.tolist(),
            "observation_std": task.observation_std.tolist(),
            **output_settings(task),
        }
        recorded = read_json_object(path) if path.exists() else found
        for name in ("sizes", "grid"):
            if recorded.get(name) != found[name]:
                raise ValueError(
                    f"A resumed run must have the `{name}` that it began with, {recorded.get(name)} in {str(path)!r}, "
                    f"but received {found[name]}."
                )
        # in standard deviations: other machines round differently
        std = task.observation_std
        difference = max(
            ((torch.tensor(recorded[name]) - torch.tensor(found[name])) / std).abs().max().item()
            for name in ("observation_mean", "observation_std")
        )
        if difference > _STATISTICS_TOLERANCE:
            raise ValueError(
                f"A resumed run must have the data that it began with, but the statistics in {str(path)!r} differ "
                f"from those of the task by up to {difference:.3g} standard deviations."
            )
        write_json(path, recorded)

    def _nested(self) -> NestedMLP | None:
        """Trains the nested slices, on demonstrations and rounds of DAgger of their own, unless they are published."""
        config, task = self.recipe.nested, self.task
        if config is None or self._is_published():
            self.progress.finish("nested slices")
            return None
        self.progress.begin("nested slices")
        nested = train_nested(
            task.separate() if isinstance(task, ImitationTask) else task,
            _resuming(config),
            self.work / "nested",
            on_step=lambda step, _: self.progress.update("nested slices", step),
        )
        self.progress.finish("nested slices")
        return nested

    def _hypernetwork(self) -> GraphHyperNetwork:
        """Trains the GHN, or reads it if it is complete."""
        folder = self.work / "ghn"
        self.progress.begin("hypernetwork")
        if self._is_published():
            ghn = GraphHyperNetwork.from_pretrained(folder / "ghn")
            # networks that the evaluation trains directly learn from the same data
            for step in sorted(self.recipe.ghn.dagger_steps):
                assert isinstance(self.task, ImitationTask)
                add_round(self.task, round_path(folder, step))
        else:
            ghn = train_ghn(
                self.task,
                _resuming(self.recipe.ghn),
                folder,
                on_step=lambda step, _: self.progress.update("hypernetwork", step),
            )
        self.progress.finish("hypernetwork")
        return ghn

    def _transformer(self, ghn: GraphHyperNetwork) -> NNiTPipeline:
        """Trains the transformer, and tunes it."""
        pipeline = self._trained("transformer", self.recipe.nnit, ghn, None)
        if self.recipe.tuning is not None:
            pipeline = self._trained("tuning", self.recipe.tuning, ghn, pipeline)
        return pipeline

    def _trained(
        self, name: str, config: NNiTTrainingConfig, ghn: GraphHyperNetwork, before: NNiTPipeline | None
    ) -> NNiTPipeline:
        self.progress.begin(name)
        pipeline = train_nnit(
            self.task,
            ghn,
            _resuming(config),
            self.work / name,
            pretrained=None if before is None else before.transformer,
            on_step=lambda step, _: self.progress.update(name, step),
        )
        self.progress.finish(name)
        return pipeline

    def _number_of_steps(self, pipeline: NNiTPipeline) -> None:
        """Chooses the denoising steps that the pipeline takes by default, on validation data."""
        self.progress.begin("denoising steps")
        nnit = self.recipe.nnit
        # as many as a validation has in its three regions
        num_architectures = 3 * nnit.validation_architectures
        chosen = choose_num_steps(pipeline, self.task, num_architectures, nnit.validation_episodes, nnit.seed)
        write_json(self.work / _STEPS_NAME, chosen)
        self.progress.finish("denoising steps")

    def _publish(self, pipeline: NNiTPipeline) -> None:
        """Writes the pipeline in half precision, with the recipe and the records of all training runs."""
        names = {
            "training_nested.json": "nested",
            "training_ghn.json": "ghn",
            "training_nnit.json": "transformer",
            "training_tuning.json": "tuning",
        }
        records = {name: self.work / folder / RECORD_NAME for name, folder in names.items()}
        records["training_steps.json"] = self.work / _STEPS_NAME
        spec = published_spec(self.task)
        write_pipeline(
            pipeline,
            self.output_dir,
            {
                RECIPE_NAME: self.recipe.to_dict(),
                **({} if spec is None else {SPEC_NAME: spec}),
                **{name: read_json_object(path) for name, path in records.items() if path.is_file()},
            },
        )

    def _evaluation(self, pipeline: NNiTPipeline) -> None:
        """Evaluates the pipeline as it is published, then draws pictures and writes the card."""
        self.progress.begin("evaluation")
        path, card = self.output_dir / "evaluation.json", self.output_dir / "README.md"
        before = path.read_bytes() if path.exists() else b""
        report = evaluate_pipeline(pipeline, self.task, path, self.recipe.evaluation, on_part=self._on_part)
        write_json(self.output_dir / RECIPE_NAME, self.recipe.to_dict())
        self.progress.finish("evaluation")
        # a finished card may have been edited since
        if path.read_bytes() != before or not card.exists():
            draw_pictures(report, self.output_dir)
            write_card(self.output_dir, self.task)

    def _on_part(self, done: int, missing: int, name: str) -> None:
        """Parts of the evaluation that an earlier process has stored count as done."""
        stored = self.progress.stages["evaluation"].num_units - missing
        self.progress.update("evaluation", stored + done, num_new=min(done, 1))


def _resuming(config: Any) -> Any:
    """The same settings, resumed where the run was stopped."""
    return replace(config, resume_from_checkpoint="latest")
