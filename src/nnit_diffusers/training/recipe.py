"""The settings of all stages of a training run: by preset and task, overridden one by one, or read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from ..cards.folder import RECIPE_NAME
from ..evaluation.config import EvaluationConfig
from ..loading.local import find_folder, read_json_object
from ..settings import checked, override
from ..tasks.base import Task
from ..tasks.imitation import ImitationTask
from ..tasks.registry import list_tasks
from ..tasks.simulation.task import SimulatorTask
from ..tasks.tables import TableTask
from .config import GeneratorTrainingConfig, GHNTrainingConfig, NestedTrainingConfig, NNiTTrainingConfig
from .demonstrations import DemonstrationsConfig


PRESETS = ("small", "base", "large")
# Steps of all demonstrations of an environment whose episodes are long; fewer long episodes show as much.
_DEMONSTRATED_STEPS, _MIN_EPISODES = 30_000, 20
# Parameters of the mean network of the task that the numbers of steps below are chosen for: that of `digits`.
_USUAL_PARAMETERS = 5000
# Rows for training below which a hypernetwork and the tuning need fewer steps: measured on 340 and 900 rows.
_FEW_ROWS = 2000
# What tuning shares with the transformer that it begins with.
_SHARED = ("patch_size", "num_layers", "num_attention_heads", "attention_head_dim", "scheduler_shift")
# What a run of all stages decides by itself.
_MANAGED = ("resume_from_checkpoint", "overwrite")
# Fractions of the hypernetwork's steps after which rounds of DAgger are run.
_DAGGER_FRACTIONS = (0.22, 0.39, 0.56)


@dataclass
class _Preset:
    """What a preset decides; the task decides the rest."""

    nested_steps: int
    ghn_steps: int
    nnit_steps: int
    tuning_steps: int
    num_layers: int
    attention_head_dim: int
    num_networks: int
    num_episodes: int
    sections: tuple[Any, ...]


_SECTIONS = ("regions", "direct", "widths", "depths", "unconditional", "novelty", "steps")
# of tables, whose networks are small, and whose users wait for the result: small takes a few minutes on two CPU cores
_TABLE_PRESETS = {
    "small": _Preset(1000, 1000, 300, 200, 3, 32, 10, 10, ("regions", "direct", "unconditional")),
    "base": _Preset(6000, 4000, 1200, 500, 4, 40, 30, 20, _SECTIONS),
    "large": _Preset(12_000, 10_000, 4000, 1500, 6, 52, 100, 20, _SECTIONS),
}
_PRESETS = {
    "small": _Preset(6000, 1500, 900, 250, 4, 40, 10, 10, ("regions", "direct", "unconditional")),
    "base": _Preset(12_000, 4000, 2500, 600, 6, 52, 30, 20, _SECTIONS),
    "large": _Preset(24_000, 10_000, 8000, 2000, 8, 64, 100, 20, _SECTIONS),
}


@dataclass
class Recipe:
    """Settings of every stage of [`train`].

    Parameters:
        task (`str`): Name of the task.
        demonstrations (`DemonstrationsConfig`, *optional*): Recording of the expert; `None` if the task has its data.
        ghn (`GHNTrainingConfig`): The hypernetwork.
        nnit (`NNiTTrainingConfig`): The transformer.
        tuning (`NNiTTrainingConfig`, *optional*): Its tuning by what networks compute; `None` for none.
        evaluation (`EvaluationConfig`): The evaluation.
        nested (`NestedTrainingConfig`, *optional*): Nested slices, the baseline; `None` for none.
    """

    task: str
    demonstrations: DemonstrationsConfig | None
    ghn: GHNTrainingConfig
    nnit: NNiTTrainingConfig
    tuning: NNiTTrainingConfig | None
    evaluation: EvaluationConfig
    nested: NestedTrainingConfig | None = None

    @classmethod
    def for_task(cls, task: Task, preset: str = "base") -> Recipe:
        """The recipe of a preset, with sizes chosen from the task.

        Raises:
            `ValueError`: If there is no such preset, or the task has no name.
        """
        if not getattr(task, "name", None):
            raise ValueError(f"`task` must have a name, see `register_task`, but {type(task).__name__} has none.")
        if preset not in PRESETS:
            raise ValueError(f"`preset` must be one of {list(PRESETS)}, but received {preset!r}.")
        is_imitation, is_table = isinstance(task, ImitationTask), isinstance(task, TableTask)
        chosen = (_TABLE_PRESETS if is_table else _PRESETS)[preset]
        nnit = _nnit_of(task, chosen)
        return cls(
            task=task.name,
            demonstrations=_demonstrations_of(task),
            ghn=_ghn_of(task, chosen),
            nnit=nnit,
            tuning=_tuning_for(task, nnit, _steps_of(task, chosen.tuning_steps) * _exactness(task)),
            evaluation=EvaluationConfig(
                sections=chosen.sections,
                num_networks=max(2, chosen.num_networks // 3) if is_imitation else chosen.num_networks,
                num_selected=max(1, chosen.num_networks // 10),
                num_episodes=chosen.num_episodes if is_imitation else None,
                num_final_episodes=5 * chosen.num_episodes if is_imitation else None,
                num_direct_architectures=2 if is_imitation else 3 if is_table else 5,
                direct_steps=_steps_of(task, 4000 if is_imitation else 2000) * _exactness(task),
                num_unconditional_networks=2 * chosen.num_networks,
                num_budget_networks=chosen.num_networks,
                num_width_networks=chosen.num_networks,
                num_depth_networks=max(2, chosen.num_networks // 3),
            ),
            nested=_nested_of(task, chosen),
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Recipe:
        """Reads the JSON form. Settings that a stage lacks have their defaults.

        Raises:
            `ValueError`: If a stage other than `nested` is missing, or a stage or setting is unknown, out of range or
                of another type.
        """
        types_of = get_type_hints(cls)
        unknown, missing = sorted(content.keys() - types_of), sorted(types_of.keys() - content.keys() - {"nested"})
        if unknown or missing:
            raise ValueError(f"A recipe must have {list(types_of)}, but has {unknown} besides and lacks {missing}.")
        stages: dict[str, Any] = {}
        for name, kind in types_of.items():
            value = content.get(name)
            config_type = next((option for option in (kind, *get_args(kind)) if hasattr(option, "__mro__")), kind)
            if name == "task" or value is None:
                stages[name] = checked(value, kind, name)
            elif isinstance(value, Mapping):
                stages[name] = override(config_type(), value, name)
            else:
                raise ValueError(f"`{name}` of a recipe must be its settings, but is {value!r}.")
        return cls(**stages)._with_shared_settings({})

    @classmethod
    def from_pretrained(cls, path_or_repo: str | Path, revision: str | None = None) -> Recipe:
        """Reads the recipe of a pipeline, from its folder or Hub repository, or a JSON file.

        Raises:
            `OSError`: If there is none.
            `ValueError`: If it is damaged; see [`~Recipe.from_dict`].
        """
        path = Path(path_or_repo)
        if not path.is_file():
            path = find_folder(path_or_repo, (RECIPE_NAME,), revision=revision) / RECIPE_NAME
        return cls.from_dict(read_json_object(path))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    def with_overrides(self, overrides: Mapping[str, Mapping[str, Any] | None]) -> Recipe:
        """The same recipe with other settings of some stages; `None` for a stage leaves it out.

        Rounds of DAgger keep their place in the run where only its length changes. Tuning has the model of the
        transformer.

        Raises:
            `ValueError`: If a stage or a setting is unknown, or a value is out of range or has another type.
        """
        changed: dict[str, Any] = {}
        defaults = {
            "demonstrations": DemonstrationsConfig(),
            "tuning": _tuning_of(self.nnit),
            "nested": NestedTrainingConfig(),
        }
        for stage, settings in overrides.items():
            known = [field.name for field in fields(self) if field.name != "task"]
            if stage not in known:
                raise ValueError(f"A stage must be one of {known}, but received {stage!r}.")
            if settings is None and stage not in defaults:
                raise ValueError(f"`{stage}` cannot be left out, but received None.")
            if settings is None:
                changed[stage] = None
                continue
            managed = [name for name in settings if name in _MANAGED]
            if managed:
                raise ValueError(f"`{stage}` must leave {list(_MANAGED)} to the run, but received {managed}.")
            current: Any = getattr(self, stage) or defaults.get(stage)
            if stage in ("ghn", "nested") and "dagger_steps" not in settings:
                settings = {**settings, "dagger_steps": _moved_rounds(current, settings)}
            changed[stage] = override(current, settings, stage)
        return replace(self, **changed)._with_shared_settings(overrides.get("tuning") or {})

    def _with_shared_settings(self, explicit: Mapping[str, Any]) -> Recipe:
        """The same recipe, whose tuning has the model and the sampler of the transformer.

        Raises:
            `ValueError`: If another value was given explicitly.
        """
        if self.tuning is None:
            return self
        for name in _SHARED:
            wanted = getattr(self.nnit, name)
            if name in explicit and explicit[name] != wanted:
                raise ValueError(f"`tuning.{name}` must be as in `nnit`, {wanted!r}, but received {explicit[name]!r}.")
        return replace(self, tuning=replace(self.tuning, **{name: getattr(self.nnit, name) for name in _SHARED}))


def default_preset(task: Task) -> str:
    """The preset of a task that is trained without naming one: the small one where data is a table in memory."""
    return "small" if isinstance(task, TableTask) else "base"


def _demonstrations_of(task: Task) -> DemonstrationsConfig | None:
    """How a teacher is recorded, where there is one and no data."""
    if not isinstance(task, SimulatorTask) or task.data_dir is not None or not task.can_label:
        return None
    # built-in tasks, whose sizes are known, start no simulator for this
    if task.name in list_tasks():
        return DemonstrationsConfig()
    episodes = _DEMONSTRATED_STEPS // task.contract.max_episode_steps
    return DemonstrationsConfig(num_episodes=min(max(episodes, _MIN_EPISODES), DemonstrationsConfig.num_episodes))


def _tuning_of(nnit: NNiTTrainingConfig, steps: int | None = None) -> NNiTTrainingConfig:
    """Tuning by what networks compute: gently, from another seed, by default for a quarter of the steps.

    Predicted networks should compute what the clean ones do, and also do well at the task by themselves.
    """
    return replace(
        nnit,
        seed=nnit.seed + 1,
        max_train_steps=steps or max(1, nnit.max_train_steps // 4),
        learning_rate=5e-4,
        muon_learning_rate=0.005,
        lr_warmup_steps=20,
        bias_loss_weight=1.0,
        logit_mean=0.0,
        function_loss_weight=1.0,
        task_loss_weight=1.0,
    )


def _tuning_for(task: Task, nnit: NNiTTrainingConfig, steps: int) -> NNiTTrainingConfig:
    """Tuning of a task. Policies are tuned for longer, and closer to the expert, narrow ones most of all.

    In episodes, small errors of narrow policies add up, and losses of actions are small numbers. Networks of
    data sets learn to be generated in one step. It takes half of the tuning's time, which tables do not have.
    """
    if isinstance(task, TableTask):
        return _tuning_of(nnit, steps if _has_few_rows(task) else round(1.5 * steps))
    if not isinstance(task, ImitationTask):
        return replace(_tuning_of(nnit, steps), one_step_loss_weight=1.0)
    return replace(
        _tuning_of(nnit, 3 * steps),
        narrow_fraction=0.6 if nnit.narrow_fraction else 0.0,
        function_batch_size=512,
        task_loss_weight=30.0,
    )


def _moved_rounds(run: GeneratorTrainingConfig, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Rounds of DAgger at the same fractions of a run of another length."""
    length = settings.get("max_train_steps", run.max_train_steps)
    if not isinstance(length, int) or length == run.max_train_steps:
        return run.dagger_steps
    return tuple(sorted({max(1, round(step * length / run.max_train_steps)) for step in run.dagger_steps}))


def _steps_of(task: Task, steps: int) -> int:
    """Optimisation steps for networks of the task's size: fewer for small ones, more for large ones.

    Tables have numbers of steps of their own.
    """
    if isinstance(task, TableTask):
        return steps
    drawn = task.regions.sample("seen", 200, torch.Generator().manual_seed(0))
    mean = sum(architecture.num_parameters for architecture in drawn) / len(drawn)
    factor = min(max((mean / _USUAL_PARAMETERS) ** 0.5, 0.4), 1.5)
    return max(1, round(steps * factor / 10) * 10)


def _is_wide(task: Task) -> bool:
    return task.max_width > 64


def _has_few_rows(task: TableTask) -> bool:
    return len(task.rows.targets_of("train")) < _FEW_ROWS


def _narrow_fraction(task: Task) -> float:
    """A third of the architectures where few uniformly drawn ones would be narrow."""
    return 0.34 if task.max_width >= 3 * task.min_width else 0.0


def _exactness(task: Task) -> int:
    """Twice the steps where actions are standardised, such as joint positions.

    Most of such an action is where the robot is already, and what the expert decides is a small rest of it.
    """
    return 2 if isinstance(task, ImitationTask) and task.standardises_actions else 1


def _dagger_of(task: Task, steps: int) -> dict[str, Any]:
    """Rounds of DAgger of a run of this length, if there is an expert or a teacher."""
    has_rounds = isinstance(task, ImitationTask) and task.can_label
    return {
        "dagger_steps": tuple(round(fraction * steps) for fraction in _DAGGER_FRACTIONS) if has_rounds else (),
        "dagger_policies": 60,
        "dagger_episodes": 1,
    }


def _nested_of(task: Task, preset: _Preset) -> NestedTrainingConfig:
    # every step trains one depth
    num_depths = task.max_depth - task.min_depth + 1
    steps = max(1, round(_steps_of(task, preset.nested_steps) * _exactness(task) * num_depths / 3))
    return NestedTrainingConfig(
        max_train_steps=steps,
        narrow_fraction=0.5 if _narrow_fraction(task) else 0.0,
        **_dagger_of(task, steps),
        checkpointing_steps=max(1, steps // 4),
        **_validation_of(task, steps, preset),
    )


def _ghn_of(task: Task, preset: _Preset) -> GHNTrainingConfig:
    is_imitation, is_table, is_wide = isinstance(task, ImitationTask), isinstance(task, TableTask), _is_wide(task)
    # an expert's actions have to be met more exactly than a class, and few rows are learned sooner
    steps = _steps_of(task, preset.ghn_steps) * (2 * _exactness(task) if is_imitation else 1)
    if isinstance(task, TableTask) and _has_few_rows(task):
        steps = max(1, round(0.6 * steps))
    return GHNTrainingConfig(
        max_train_steps=steps,
        train_batch_size=256 if is_imitation or is_table else 128,
        num_architectures=8 if is_imitation else 6,
        narrow_fraction=_narrow_fraction(task),
        # measured: more architectures in a step are worth more than more latents of each
        latents_per_architecture=2 if is_imitation or is_table else 4,
        learning_rate=6e-3 if is_imitation or is_table else 3e-3,
        diversity_target=0.85,
        diversity_weight=0.1 if is_imitation or is_table else 0.3,
        **_dagger_of(task, steps),
        node_dim=64 if is_table else 96,
        map_channels=16 if is_table else 32,
        num_templates=16 if is_wide else 32,
        upsampling=16 if is_wide else 8,
        checkpointing_steps=max(1, steps // 6),
        **_validation_of(task, steps, preset),
    )


def _nnit_of(task: Task, preset: _Preset) -> NNiTTrainingConfig:
    is_wide, steps = _is_wide(task), _steps_of(task, preset.nnit_steps) * _exactness(task)
    return NNiTTrainingConfig(
        max_train_steps=steps,
        train_batch_size=8 if is_wide else 16,
        latents_per_architecture=2,
        narrow_fraction=_narrow_fraction(task),
        lr_warmup_steps=min(200, steps // 10),
        patch_size=16 if is_wide else 8,
        num_layers=preset.num_layers,
        attention_head_dim=preset.attention_head_dim,
        checkpointing_steps=max(1, min(250, steps // 4)),
        **_validation_of(task, steps, preset),
    )


def _validation_of(task: Task, steps: int, preset: _Preset) -> dict[str, Any]:
    """A few small validations, or one where a run takes minutes, and no tracker."""
    is_imitation = isinstance(task, ImitationTask)
    return {
        # rounded up, so that the third is the one after the last step
        "validation_steps": steps if isinstance(task, TableTask) else -(-steps // 3),
        "validation_architectures": 4,
        "validation_episodes": preset.num_episodes if is_imitation else None,
        "report_to": "none",
    }
