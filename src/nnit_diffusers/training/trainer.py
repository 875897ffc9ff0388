"""The loop that all training stages share: from the first step, or a checkpoint, to the last one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.state import AcceleratorState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    ProjectConfiguration,
    set_seed,
)
from diffusers import ModelMixin
from diffusers.optimization import SchedulerType, get_scheduler
from diffusers.training_utils import EMAModel
from diffusers.utils.logging import tqdm

from ..tasks.base import Task
from .checkpoints import (
    TrainingRecord,
    averaged_weights,
    checkpoint_step,
    claim_folder,
    find_checkpoints,
    load_checkpoint,
    register_model_hooks,
    save_checkpoint,
)
from .config import TrainingConfig
from .publishing import check_upload, upload
from .randomness import prefetch, step_generator


logger = get_logger(__name__)

Config = TypeVar("Config", bound=TrainingConfig)
Batch = TypeVar("Batch")
# Called after every step with the number of steps done and the metrics of the last one.
StepCallback = Callable[[int, dict[str, float]], None]


def tracker_of(report_to: str | None) -> str | None:
    """The tracker that `report_to` names, as `Accelerator` takes it.

    Raises:
        `ValueError`: If accelerate has no such tracker, or its package is not installed.
    """
    available = [str(getattr(name, "value", name)) for name in get_available_trackers()]
    if report_to is None:
        return "tensorboard" if "tensorboard" in available else None
    if report_to in ("none", "all"):
        return None if report_to == "none" else "all"
    if report_to not in available:
        known = sorted(str(getattr(name, "value", name)) for name in LOGGER_TYPE_TO_CLASS)
        raise ValueError(
            f"`report_to` must be 'none', 'all' or an installed tracker of {known}, but received {report_to!r}; "
            f"installed are {sorted(available)}."
        )
    return report_to


def create_accelerator(config: TrainingConfig, output_dir: Path) -> Accelerator:
    """An accelerator with the configured precision and accumulation; what is not configured is left to accelerate."""
    options: dict[str, Any] = {}
    if config.gradient_accumulation_steps is not None:
        # As a plugin: a plain number would give way to that of `accelerate launch`.
        options["gradient_accumulation_plugin"] = GradientAccumulationPlugin(
            num_steps=config.gradient_accumulation_steps
        )
    # Of an earlier run in this process. Otherwise, its precision would be kept, and another one refused.
    AcceleratorState._reset_state()
    return Accelerator(
        # Without `cpu`, accelerate treats each CPU process of torchrun as the only one.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=config.mixed_precision,
        log_with=tracker_of(config.report_to),
        project_config=ProjectConfiguration(project_dir=str(output_dir), logging_dir=str(output_dir / "logs")),
        # A step that draws only single-layer networks leaves the templates between hidden layers unused.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        **options,
    )


def check_schedule(config: TrainingConfig) -> None:
    """Raises `ValueError` if diffusers has no such schedule, or it needs rules and has none."""
    names = [schedule.value for schedule in SchedulerType]
    if config.lr_scheduler not in names:
        raise ValueError(f"`lr_scheduler` must be one of {names}, but received {config.lr_scheduler!r}.")
    if config.lr_scheduler == SchedulerType.PIECEWISE_CONSTANT.value and not config.lr_step_rules:
        raise ValueError(
            "`lr_step_rules` must be rules such as '1:10,0.1:20,0.01' for the schedule 'piecewise_constant', but "
            f"received {config.lr_step_rules!r}."
        )


def create_schedule(config: TrainingConfig, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule of the learning rates.

    Raises:
        `ValueError`: See [`check_schedule`].
    """
    check_schedule(config)
    return get_scheduler(
        config.lr_scheduler,
        optimizer,
        step_rules=config.lr_step_rules,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=config.max_train_steps,
    )


class Trainer(ABC, Generic[Config, Batch]):
    """A training run. Subclasses specify its model, batches, losses and validation.

    Parameters:
        task (`Task`): The task that networks are generated for.
        config (`TrainingConfig`): Settings of the run.
        output_dir (`str` or `Path`): Folder of checkpoints, logs, the record `training.json` and the result.
        on_step (`StepCallback`, *optional*): Called after every step; without it, the trainer shows a progress bar.

    Raises:
        `ValueError`: If a setting is out of range, the folder holds another run, or a checkpoint cannot be resumed.
    """

    # Name of the trained model in checkpoints, of the run in trackers, and of the result in `output_dir`.
    model_name: ClassVar[str]
    run_name: ClassVar[str]
    result_name: ClassVar[str]

    def __init__(
        self, task: Task, config: Config, output_dir: str | Path, on_step: StepCallback | None = None
    ) -> None:
        self.task, self.output_dir, self.on_step = task, Path(output_dir), on_step
        self.accelerator = create_accelerator(config, self.output_dir)
        # with what was left to accelerate, so that the record holds what ran
        self.config = config = replace(
            config,
            mixed_precision=self.accelerator.mixed_precision,
            gradient_accumulation_steps=self.num_micro_steps,
        )
        with self.accelerator.main_process_first():
            claim_folder(self.output_dir, config)
        if config.push_to_hub and self.accelerator.is_main_process:
            check_upload(self._repo_id)
        set_seed(config.seed)
        self.trained = self.create_model()
        self._prepare()
        self._resume()

    # What a stage specifies.

    @abstractmethod
    def create_model(self) -> ModelMixin:
        """The model to train, freshly initialised or pretrained."""

    @abstractmethod
    def prepare_batch(self, generator: torch.Generator) -> Batch:
        """Everything random about one micro-step, on the CPU; may run in a thread."""

    @abstractmethod
    def losses(self, batch: Batch, counts: dict[str, float]) -> dict[str, torch.Tensor]:
        """Losses of a micro-step by name; divided by `counts`, they add up to those of the step."""

    @abstractmethod
    def total_loss(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        """The weighted sum that is minimised."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Metrics on validation data; the model has its averaged weights."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Saves the result; the model has its averaged weights."""

    def counts(self, batch: Batch) -> dict[str, float]:
        """What the losses of a micro-step are divided by, to be summed over the micro-steps of a step."""
        return {"networks": 1.0}

    def create_optimizer(self) -> torch.optim.Optimizer:
        """AdamW unless a stage specifies another."""
        return torch.optim.AdamW(self.trained.parameters(), **self.adam_options)

    def after_step(self) -> None:
        """Runs after every step, before its checkpoint."""

    # What they have in common.

    @property
    def adam_options(self) -> dict[str, Any]:
        config = self.config
        return {
            "lr": config.learning_rate,
            "betas": (config.adam_beta1, config.adam_beta2),
            "weight_decay": config.adam_weight_decay,
            "eps": config.adam_epsilon,
        }

    @property
    def num_micro_steps(self) -> int:
        """Micro-steps of an optimisation step, on each process."""
        return self.accelerator.gradient_accumulation_steps

    @property
    def _repo_id(self) -> str:
        return self.config.hub_model_id or self.output_dir.name

    def _prepare(self) -> None:
        """EMA, optimizer and schedule, and what a checkpoint holds."""
        config = self.config
        self.ema: EMAModel | None = None
        if config.use_ema:
            self.ema = EMAModel(
                self.trained.parameters(),
                decay=config.ema_decay,
                model_cls=type(self.trained),
                model_config=self.trained.config,
            )
            self.ema.to(self.accelerator.device)
        averages = {self.model_name: self.ema} if self.ema else {}
        register_model_hooks(self.accelerator, {self.model_name: self.trained}, averages)
        optimizer = self.create_optimizer()
        # Steps of the schedule are optimisation steps. Prepared by accelerate, it would advance once a process.
        self.lr_scheduler = create_schedule(config, optimizer)
        self.accelerator.register_for_checkpointing(self.lr_scheduler)
        self.model, self.optimizer = self.accelerator.prepare(self.trained, optimizer)

    def _resume(self) -> None:
        """Loads the newest intact checkpoint, if one is wanted."""
        self.step = 0
        candidates = find_checkpoints(self.output_dir, self.config.resume_from_checkpoint)
        checkpoint, problems = load_checkpoint(candidates, lambda path: self.accelerator.load_state(str(path)))
        for problem in problems:
            logger.warning(problem)
        if checkpoint is not None:
            self.step = checkpoint_step(checkpoint)
            logger.info(f"Resumed from {checkpoint}")

    def batches(self) -> Iterator[Batch]:
        """Batch of every remaining micro-step; each has a generator of its own."""
        seed, process = self.config.seed, self.accelerator.process_index

        def prepare(number: int) -> Batch:
            return self.prepare_batch(step_generator(seed, number, process))

        numbers = range(self.step * self.num_micro_steps, self.config.max_train_steps * self.num_micro_steps)
        return prefetch(prepare, numbers, getattr(self.config, "dataloader_num_workers", 0))

    def _step_counts(self, batches: list[Batch]) -> dict[str, float]:
        """Counts of a step: summed over micro-steps, averaged over processes as gradients are; 0 becomes 1."""
        totals: dict[str, float] = {}
        for batch in batches:
            for name, count in self.counts(batch).items():
                totals[name] = totals.get(name, 0.0) + count
        values = torch.tensor(list(totals.values()), dtype=torch.float64, device=self.accelerator.device)
        values = self.accelerator.reduce(values, "mean")
        # Not a minimum of 1: the average of two processes may be a half.
        return {name: count or 1.0 for name, count in zip(totals, values.tolist(), strict=True)}

    def train_step(self, batches: list[Batch]) -> dict[str, float]:
        """One optimisation step on its micro-batches; returns the losses of all of them."""
        accelerator, metrics = self.accelerator, dict[str, float]()
        counts = self._step_counts(batches)
        for batch in batches:
            with accelerator.accumulate(self.model):
                with accelerator.autocast():
                    losses = self.losses(batch, counts)
                # accelerate divides by the number of micro-steps, which the counts have done already
                accelerator.backward(self.total_loss(losses) * self.num_micro_steps)
                # accelerate skips the update until the gradients of all micro-steps are summed
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(self.trained.parameters(), self.config.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            for name, loss in losses.items():
                metrics[name] = metrics.get(name, 0.0) + loss.item()
        if not accelerator.optimizer_step_was_skipped:
            self.lr_scheduler.step()
        self.step += 1
        if self.ema:
            self.ema.step(self.trained.parameters())
        if not all(map(math.isfinite, metrics.values())):
            raise FloatingPointError(f"The loss became {metrics} at step {self.step}; lower `learning_rate`.")
        return metrics

    def run(self) -> None:
        """Trains to the last step and saves the result."""
        config, accelerator = self.config, self.accelerator
        # trackers and the record of the run
        if accelerator.is_main_process:
            accelerator.init_trackers(self.run_name)
            self.record = TrainingRecord(self.output_dir, {"task": self.task.name, **asdict(config)}, self.step)
        logger.info(f"{self.trained.num_parameters():,} parameters on {accelerator.num_processes} process(es)")
        is_shown = self.on_step is None and accelerator.is_local_main_process
        progress = tqdm(total=config.max_train_steps, initial=self.step, desc=self.run_name, disable=not is_shown)
        # a validation or a round of data that a kill may have cut off
        if self.step:
            self.after_step()
            self._validate_when_due()
        batches = self.batches()
        while self.step < config.max_train_steps:
            metrics = self.train_step([next(batches) for _ in range(self.num_micro_steps)])
            self.after_step()
            # a checkpoint comes before the validation, which may fail
            if self.step % config.checkpointing_steps == 0 or self.step == config.max_train_steps:
                save_checkpoint(accelerator, self.output_dir, self.step, config.checkpoints_total_limit)
            metrics |= self._validate_when_due()
            accelerator.log(metrics | {"lr": self.lr_scheduler.get_last_lr()[0]}, step=self.step)
            progress.update()
            progress.set_postfix({name: f"{value:.3f}" for name, value in metrics.items()}, refresh=False)
            if self.on_step:
                self.on_step(self.step, metrics)
        progress.close()
        self._finish()

    def _validate_when_due(self) -> dict[str, float]:
        """Validates on the main process, every `validation_steps` and at the last step."""
        is_due = self.step % self.config.validation_steps == 0 or self.step == self.config.max_train_steps
        if not is_due or not self.accelerator.is_main_process or self.record.has_validation(self.step):
            return {}
        with averaged_weights(self.trained, self.ema):
            metrics = self.validate()
        self.record.add_validation(self.step, metrics)
        logger.info(f"step {self.step}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        return metrics

    def _finish(self) -> None:
        """Saves the result with averaged weights if `use_ema`, and uploads it if `push_to_hub`."""
        if self.ema:
            self.ema.copy_to(self.trained.parameters())
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            folder = self.output_dir / self.result_name
            self.save(folder)
            logger.info(f"Saved {folder}")
            if self.config.push_to_hub:
                upload(folder, self._repo_id)
        # Not `end_training`: without its processes, a distributed run could not be followed by that of the next stage.
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.wait_for_everyone()
