"""NNiTPipeline: generates the weights, and optionally the architectures, of networks of any width and depth.

Shape legend: B networks, S slots for hidden layers (tokens), P patches (padded to the most), p side of a patch.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils.torch_utils import randn_tensor

from ..architecture import MLPArchitecture
from ..flow import velocity_of
from ..loading.limits import MAX_TIMESTEPS, check_count, check_size
from ..loading.pipelines import check_fit
from ..models.graph_hypernetwork import GraphHyperNetwork
from ..models.nested_mlp import NestedMLP
from ..models.patches import WeightPatchBatch
from ..models.transformer_nnit import NNiTTransformer
from ..models.weight_patch_tokenizer import WeightPatchTokenizer
from ..schedulers.scheduling_architecture import NNiTArchitectureScheduler
from .architectures import sample_tokens
from .batching import split_batch
from .budget import ArchitectureLike, ArchitectureSpace, parse_architectures
from .conditioning import TaskLike, check_guidance, spread_request
from .contracts import ContractPipeline
from .pipeline_output import NNiTPipelineOutput, decode_latents
from .requests import CALLBACK_TENSORS, check_request, check_space, tensors_of
from .timesteps import set_timesteps


StepEnd = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]
"""Called with a step's index, timestep and latents; returns the latents to proceed with."""


class NNiTPipeline(ContractPipeline):
    """Generates the weights of MLPs of any width and depth.

    Implements NNiT (https://huggingface.co/papers/2603.00180). Weights are generated for given architectures,
    p(w given a), or architecture and weights unconditionally, p(a) p(w given a). Networks take raw inputs, and have
    the pipeline's `contract`, a [`NetworkContract`].

    Parameters:
        transformer ([`NNiTTransformer`]): Predicts clean patches of weights, and architecture tokens.
        scheduler ([`FlowMatchEulerDiscreteScheduler`]):
            Denoises patches; any flow-matching scheduler of diffusers works.
        architecture_scheduler ([`NNiTArchitectureScheduler`]): Unmasks architecture tokens.
        tokenizer ([`WeightPatchTokenizer`]): Turns patches into networks.
        ghn ([`GraphHyperNetwork`], *optional*): Source of the transformer's training networks; not called here.
        nested ([`NestedMLP`], *optional*): Slices of one network, the simplest way to any width; not called here.
        min_width (`int`, defaults to 1):
            Minimum width that the model may choose; the maximum is the transformer's `max_width`.
        min_depth (`int`, defaults to 1): Minimum number of hidden layers that the model may choose.
        max_depth (`int`, *optional*):
            Maximum number of hidden layers that the model may choose, by default the tokenizer's `max_depth`.
        default_num_inference_steps (`int`, defaults to 20):
            Denoising steps of a call that names none: the fewest that generate networks as good as many steps do.

    Raises:
        `ValueError`: If the components do not fit together, or a size is not a positive integer.

    Example:
        ```py
        >>> import torch
        >>> from nnit_diffusers import NNiTPipeline

        >>> pipe = NNiTPipeline.from_pretrained("nnit/digits")
        >>> output = pipe(arch=[48, 40], num_networks=8, generator=torch.Generator().manual_seed(0))
        >>> logits = output.networks[0](torch.rand(5, 64))
        ```
    """

    model_cpu_offload_seq = "transformer"
    _callback_tensor_inputs = list(CALLBACK_TENSORS)
    _optional_components = ["ghn", "nested"]

    def __init__(
        self,
        transformer: NNiTTransformer,
        scheduler: FlowMatchEulerDiscreteScheduler,
        architecture_scheduler: NNiTArchitectureScheduler,
        tokenizer: WeightPatchTokenizer,
        ghn: GraphHyperNetwork | None = None,
        nested: NestedMLP | None = None,
        min_width: int = 1,
        min_depth: int = 1,
        max_depth: int | None = None,
        default_num_inference_steps: int = 20,
    ):
        super().__init__()
        check_fit(transformer, tokenizer, ghn, nested)
        check_size("min_width", min_width)
        check_size("min_depth", min_depth)
        if max_depth is not None:
            check_size("max_depth", max_depth)
        check_count("default_num_inference_steps", default_num_inference_steps, MAX_TIMESTEPS)
        self.register_modules(
            transformer=transformer,
            scheduler=scheduler,
            architecture_scheduler=architecture_scheduler,
            tokenizer=tokenizer,
            ghn=ghn,
            nested=nested,
        )
        self.register_to_config(
            min_width=min_width,
            min_depth=min_depth,
            max_depth=max_depth,
            default_num_inference_steps=default_num_inference_steps,
        )
        # of a call, for its callbacks
        self._attention_kwargs: dict[str, Any] | None = None
        self._current_timestep: torch.Tensor | None = None
        self._interrupt = False
        self._guidance_scale = 1.0

    @property
    def task_names(self) -> list[str] | None:
        """Names of the tasks that networks can be requested for; `None` for a pipeline of one task."""
        names = self.transformer.config.task_names
        return None if names is None else list(names)

    @property
    def grid(self) -> dict[str, int]:
        """The ranges of widths and depths that the model may choose, which it was trained on, as in [`Task.grid`]."""
        most = self.config.max_depth
        return {
            "min_width": self.config.min_width,
            "max_width": self.transformer.config.max_width,
            "min_depth": self.config.min_depth,
            "max_depth": self.tokenizer.config.max_depth if most is None else most,
        }

    def prepare_spaces(
        self,
        arch: ArchitectureLike | Sequence[ArchitectureLike] | None,
        min_parameters: int | None = None,
        max_parameters: int | None = None,
    ) -> list[ArchitectureSpace]:
        """Converts the requested architectures to spaces of architectures that the model may choose from.

        Raises:
            `ValueError`: If a request is not an architecture, too wide or too deep, of another task, or cannot meet
                the budget.
        """
        # check the task of complete architectures
        for architecture in arch if isinstance(arch, (list, tuple)) else [arch]:
            if isinstance(architecture, MLPArchitecture):
                self.tokenizer.check_architecture(architecture)
        # add the ranges of unknown widths and depths, and the budget
        spaces = [
            ArchitectureSpace(
                in_features=self.tokenizer.config.in_features,
                out_features=self.tokenizer.config.out_features,
                hidden_sizes=hidden_sizes,
                **self.grid,
                num_slots=self.tokenizer.config.max_depth,
                min_parameters=min_parameters,
                max_parameters=max_parameters,
            )
            for hidden_sizes in parse_architectures(arch)
        ]
        for space in spaces:
            check_space(space)
        return spaces

    def sample_architectures(
        self,
        spaces: Sequence[ArchitectureSpace],
        num_inference_steps: int,
        generators: list[torch.Generator],
        temperature: float = 1.0,
        attention_kwargs: dict[str, Any] | None = None,
        task_labels: torch.Tensor | None = None,
    ) -> list[MLPArchitecture]:
        """Samples architectures from p(a): the model chooses unknown widths and depths within the budget."""
        tokens = sample_tokens(
            self, spaces, num_inference_steps, generators, temperature, attention_kwargs, task_labels
        )
        # convert tokens to architectures
        ends = (self.tokenizer.config.in_features, self.tokenizer.config.out_features)
        return [MLPArchitecture.from_tokens(of_row, *ends, self.tokenizer.config.activation) for of_row in tokens]

    def prepare_latents(
        self, batch: WeightPatchBatch, generators: list[torch.Generator], latents: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`[B, P, p * p]` initial noise, from the generator of each network; 0 in padding.

        Raises:
            `ValueError`: If the given `latents` have another shape.
        """
        if latents is not None:
            if latents.shape != batch.patches.shape:
                raise ValueError(
                    f"`latents` must be of shape {tuple(batch.patches.shape)} (networks, patches, weights of a "
                    f"patch), but received {tuple(latents.shape)}."
                )
            return latents.to(batch.patches) * batch.element_mask
        latents = torch.zeros_like(batch.patches)
        for row, num_patches in enumerate(batch.attention_mask.sum(dim=1).tolist()):
            shape = (num_patches, batch.patches.shape[-1])
            latents[row, :num_patches] = randn_tensor(shape, generators[row], device=latents.device)
        return latents * batch.element_mask

    def predict_clean_patches(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        parts: Sequence[tuple[list[int], dict[str, Any]]],
        attention_kwargs: dict[str, Any] | None = None,
    ) -> torch.Tensor:
        """Predicts clean patches `[B, P, p * p]` of the latents, in float32 whatever the dtype of the transformer."""
        clean, scale = torch.zeros_like(latents), self._guidance_scale
        for part, (rows, conditions) in enumerate(parts):
            num_patches = conditions["patch_positions"].shape[1]
            inputs = {
                "hidden_states": latents[rows, :num_patches].to(self.transformer.dtype),
                "timestep": timestep.expand(len(rows)),
                "attention_kwargs": attention_kwargs,
                "return_dict": False,
                **conditions,
            }
            with self.transformer.cache_context(f"cond_{part}"):
                predicted = self.transformer(**inputs)[0].to(clean.dtype)
            # classifier-free guidance: away from networks of any task
            if scale != 1:
                with self.transformer.cache_context(f"uncond_{part}"):
                    of_any = self.transformer(**{**inputs, "task_labels": None})[0].to(clean.dtype)
                predicted = of_any + scale * (predicted - of_any)
            clean[rows, :num_patches] = predicted
        return clean

    def denoise(
        self,
        latents: torch.Tensor,
        batch: WeightPatchBatch,
        num_inference_steps: int,
        generators: list[torch.Generator],
        attention_kwargs: dict[str, Any] | None = None,
        on_step_end: StepEnd | None = None,
    ) -> torch.Tensor:
        """Clean patches `[B, P, p * p]` from initial noise, of networks whose architectures `batch` holds."""
        # Not every cache keeps parts separate, so with a cache all networks are one part.
        if self.transformer.is_cache_enabled:
            parts = split_batch(batch, sys.maxsize)
        else:
            parts = split_batch(batch, num_slots=list(map(self.tokenizer.num_slots, batch.architectures)))
        timesteps = set_timesteps(self.scheduler, num_inference_steps, latents.device)
        self._num_timesteps = len(timesteps)
        takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
        step_kwargs = {"generator": generators} if takes_generator else {}
        with self.progress_bar(total=len(timesteps)) as progress_bar:
            for i, t in enumerate(timesteps):
                if self.interrupt:
                    continue
                self._current_timestep = t
                clean = self.predict_clean_patches(latents, t, parts, attention_kwargs)
                sigma = t / self.scheduler.config.num_train_timesteps
                velocity = velocity_of(latents, clean, sigma)
                # flow-matching step
                latents = self.scheduler.step(velocity, t, latents, **step_kwargs, return_dict=False)[0]
                latents = latents * batch.element_mask
                if on_step_end is not None:
                    latents = on_step_end(i, t, latents)
                progress_bar.update()
        self._current_timestep = None
        return latents

    @property
    def attention_kwargs(self) -> dict[str, Any] | None:
        return self._attention_kwargs

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @property
    def current_timestep(self) -> torch.Tensor | None:
        return self._current_timestep

    @property
    def interrupt(self) -> bool:
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        arch: ArchitectureLike | Sequence[ArchitectureLike] | None = None,
        num_networks: int = 1,
        num_inference_steps: int | None = None,
        min_parameters: int | None = None,
        max_parameters: int | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "mlp",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any]]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        attention_kwargs: dict[str, Any] | None = None,
        task: TaskLike = None,
        guidance_scale: float = 1.0,
    ) -> NNiTPipelineOutput | Any:  # `Any` is the tuple: the caller knows its `return_dict`
        """Generates networks.

        Parameters:
            arch (`Sequence[int | None]`, [`MLPArchitecture`], or a list of these, *optional*):
                Hidden widths, as in `[48, 40]`, or an [`MLPArchitecture`]; a list of either for several in one batch.
                The model chooses every width that is `None`, as in `[48, None]`. `None` instead of a list leaves the
                depth to the model as well.
            num_networks (`int`, defaults to 1): Number of networks for each requested architecture.
            num_inference_steps (`int`, *optional*):
                Number of denoising steps; those of the pipeline by default. Architectures take 20 or more.
            min_parameters, max_parameters (`int`, *optional*): Budget for the parameters of a network, inclusive.
            temperature (`float`, defaults to 1.0):
                Sampling temperature of architectures: above 1 more varied, towards 0 the most likely one.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                One, or one for each network. The k-th network of a generator does not depend on how many are
                requested, nor on the others in the batch. [`split_generator`] splits a request over processes.
            latents (`torch.Tensor`, *optional*): `[B, P, p * p]` initial noise, instead of drawing it.
            output_type (`str`, defaults to `"mlp"`):
                `"mlp"`, `"state_dict"`, `"pt"` (parameter vectors) or `"latent"`; see [`NNiTPipelineOutput`].
            return_dict (`bool`, defaults to `True`): Return a [`NNiTPipelineOutput`] instead of a tuple.
            callback_on_step_end (`Callable`, *optional*):
                Called after each denoising step of the weights with the pipeline, the step index, the timestep and a
                dictionary of `callback_on_step_end_tensor_inputs`. The tensors that it returns replace them.
            callback_on_step_end_tensor_inputs (`Sequence[str]`, defaults to `("latents",)`):
                Names of the tensors passed to the callback; only `"latents"` exists.
            attention_kwargs (`dict`, *optional*): For the attention processor; `scale` scales LoRA layers.
            task (`str` or `list[str]`, *optional*):
                What the networks are for, in a pipeline of several tasks; a list for several in one batch, which pairs
                with the list of architectures. By default each network is for a task that is drawn at random.
            guidance_scale (`float`, defaults to 1.0):
                Scale of classifier-free guidance towards the task; above 1, it costs a second prediction a step.

        Returns:
            [`NNiTPipelineOutput`] or `tuple`:
                `networks`, `architectures` and `tasks`; networks of the same requested architecture are consecutive.

        Raises:
            `ValueError`: If an argument is out of range, or no architecture meets the budget. The message names what
                is allowed.
        """
        # check inputs
        if num_inference_steps is None:
            num_inference_steps = self.config.default_num_inference_steps
        tensor_inputs = tensors_of(callback_on_step_end, callback_on_step_end_tensor_inputs)
        check_request(num_networks, num_inference_steps, min_parameters, max_parameters, output_type, tensor_inputs)
        self._attention_kwargs = attention_kwargs
        self._current_timestep = None
        self._interrupt = False

        def on_step_end(step: int, timestep: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
            if callback_on_step_end is None:
                return latents
            callback_kwargs = dict.fromkeys(tensor_inputs, latents)
            return callback_on_step_end(self, step, timestep, callback_kwargs).pop("latents", latents)

        # sample tasks and architectures
        names = self.task_names
        self._guidance_scale = check_guidance(guidance_scale, names)
        spaces = self.prepare_spaces(arch, min_parameters, max_parameters)
        spaces, labels, generators = spread_request(spaces, task, names, num_networks, generator)
        architectures = self.sample_architectures(
            spaces, num_inference_steps, generators, temperature, attention_kwargs, labels
        )

        # generate weights
        batch = replace(self.tokenizer.layout(architectures), task_labels=labels).to(self._execution_device)
        latents = self.prepare_latents(batch, generators, latents)
        latents = self.denoise(latents, batch, num_inference_steps, generators, attention_kwargs, on_step_end)

        # decode latents into networks
        tasks = None if names is None or labels is None else [names[label] for label in labels.tolist()]
        contracts = self.contracts_of(tasks or [None] * len(architectures))
        networks = decode_latents(self.tokenizer, latents, architectures, output_type, contracts)
        self.maybe_free_model_hooks()
        if not return_dict:
            return networks, architectures
        return NNiTPipelineOutput(networks=networks, architectures=architectures, tasks=tasks)
