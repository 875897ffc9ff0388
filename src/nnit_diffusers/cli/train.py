"""`nnit train`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import UseAppendAction, arg

from .command import Command, OptionalStr, Report
from .task_options import TaskOptions


if TYPE_CHECKING:
    from ..training import Recipe


@dataclass(kw_only=True)
class Train(TaskOptions, Command):
    """Train a pipeline for a table, a simulator or a task: from data to a folder that can be used and published.

    For example:

        # classes or numbers of a table
        nnit train wine.csv --target class --output my-table

        # any environment of Gymnasium, and a policy to imitate
        nnit train --env HalfCheetah-v5 --teacher teacher.onnx --output my-runner

        # any environment of Meta-World, and its scripted expert
        nnit train --env drawer-open-v3 --output my-drawer

        # any environment of ManiSkill, and a function of a module of yours
        nnit train --env PullCube-v1 --teacher pull_cube:expert --output my-robot

        # what was recorded, without a teacher
        nnit train --env PickCube-v1 --demonstrations trajectory.h5 --output my-pick

        # a task of this package, or a class of your own
        nnit train digits --preset small --output my-digits
        nnit train my_tasks:my_task --output my-pipeline

        # other settings of single stages
        nnit train digits --output my-digits --set ghn.max_train_steps=3000 --set evaluation.seed=7

        # only show the settings of all stages
        nnit train pickcube --preset large --output my-robot --dry-run

    The stages are: demonstrations of the teacher, the hypernetwork with DAgger, the transformer, its tuning by what
    networks compute, the evaluation, and a model card with pictures. The output folder is then what every other
    command takes as MODEL. The same command resumes an interrupted run.
    """

    after_interrupt = "The same command resumes the run."

    output: str
    """Folder to create, or folder of a run to resume."""
    preset: Annotated[
        Literal["small", "base", "large"] | None, arg(metavar="{small,base,large}", help_behavior_hint="")
    ] = None
    """Size of the run. Sizes of patches, models and steps also depend on the task. Default: small for a table, and
    base otherwise."""
    recipe: OptionalStr = None
    """Settings to use in place of a preset: recipe.json of another run, or the folder or Hub repository it is in."""
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="STAGE.SETTING=VALUE", help_behavior_hint="")] = ()
    """Another setting, such as nnit.max_train_steps=2000; may be repeated. STAGE=none leaves a stage out."""
    force: bool = False
    """Delete the run in the output folder and begin again."""
    dry_run: bool = False
    """Show the settings of all stages as JSON, and train nothing."""

    def run(self) -> Report:
        from ..training import Recipe, train
        from ..training.checks import check_recipe
        from ..training.recipe import default_preset

        task = self.make_task()
        if hasattr(task, "describe"):
            print(task.describe(), file=sys.stderr)
        preset = self.preset or default_preset(task)
        recipe = Recipe.from_pretrained(self.recipe) if self.recipe else Recipe.for_task(task, preset)
        if self.data_dir or self.demonstrations:
            recipe = recipe.with_overrides({"demonstrations": None})
        recipe = recipe.with_overrides(parse_settings(self.set))
        if self.dry_run:
            check_recipe(task, recipe, self.demonstrations)
            return Report(recipe.to_dict(), json.dumps(recipe.to_dict(), indent=2))

        train(task, self.output, recipe=recipe, recording=self.demonstrations, overwrite=self.force)
        return self._report(recipe)

    def _report(self, recipe: Recipe) -> Report:
        """What the evaluation measured, region by region."""
        from ..evaluation.tables import regions_table
        from ..loading.local import read_json_object

        evaluation = read_json_object(Path(self.output) / "evaluation.json")
        regions = evaluation.get("regions", {})
        payload = {
            "output": self.output,
            "task": recipe.task,
            "measured": {region: part["nnit"] for region, part in regions.items()},
        }
        table = f"{regions_table(regions, evaluation['settings'])}\n\n" if regions else ""
        return Report(payload, f"{table}The pipeline is in {self.output}, its results in {self.output}/README.md.")


def parse_settings(settings: Sequence[str]) -> Mapping[str, Mapping[str, Any] | None]:
    """`("ghn.seed=1", "tuning=none")` as settings by stage. Values are JSON, or words.

    Raises:
        `ValueError`: If one is not of that form.
    """
    parsed: dict[str, dict[str, Any] | None] = {}
    seen: set[str] = set()
    for text in settings:
        name, equals, value = text.partition("=")
        stage, dot, setting = name.partition(".")
        if name in seen or (parsed.get(stage, {}) is None if dot else stage in parsed):
            raise ValueError(
                f"`--set` must have every setting once, and none beside `none`, but received {text!r} again."
            )
        seen.add(name)
        if equals and not dot and value == "none":
            parsed[stage] = None
            continue
        if not (stage and setting and equals):
            raise ValueError(f"`--set` must be STAGE.SETTING=VALUE or STAGE=none, but received {text!r}.")
        try:
            read: Any = json.loads(value)
        except ValueError:
            read = value
        parsed[stage] = {**(parsed.get(stage) or {}), setting: read}
    return parsed
