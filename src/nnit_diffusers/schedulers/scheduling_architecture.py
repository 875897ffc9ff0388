"""Discrete diffusion of architecture tokens: noise masks them, denoising steps unmask them.

Shape legend: B networks, S slots for hidden layers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import torch
from diffusers import SchedulerMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.utils import BaseOutput

from ..architecture import MASK_TOKEN
from ..flow import NUM_TRAIN_TIMESTEPS
from ..loading.hub import NNiTHubMixin
from ..loading.limits import MAX_TIMESTEPS, MAX_WIDTH, check_size, shown


AllowedTokens = Callable[[int, list[int], int], torch.Tensor]
"""`(row, tokens of that row, slot)` -> `[V]` booleans: tokens that the slot may become, given those of other slots."""


@dataclass
class NNiTArchitectureSchedulerOutput(BaseOutput):
    """Output of [`NNiTArchitectureScheduler.step`].

    Attributes:
        prev_sample (`torch.Tensor`): `[B, S]` tokens with fewer masks; input of the next denoising step.
        pred_original_sample (`torch.Tensor`):
            `[B, S]`, `prev_sample` with the model's most likely token in every slot that is still masked.
    """

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


class NNiTArchitectureScheduler(NNiTHubMixin, SchedulerMixin, ConfigMixin):
    """Masked diffusion of the architecture tokens of NNiT (https://huggingface.co/papers/2603.00180).

    It follows MDLM (https://huggingface.co/papers/2406.07524). At timestep t a token is masked with probability
    `t / num_train_timesteps`, independently of the others. A denoising step from t to s unmasks each masked token with
    probability `(t - s) / t`, and draws it from the model's prediction. Known tokens never change.

    Parameters:
        num_train_timesteps (`int`, defaults to 1000): Timestep at which all tokens are masked.
        mask_token_id (`int`, defaults to 0): Token of an unknown slot.

    Raises:
        `ValueError`: If an argument is not an integer, or out of the range that `loading.limits` allows.
    """

    order = 1

    @register_to_config
    def __init__(self, num_train_timesteps: int = NUM_TRAIN_TIMESTEPS, mask_token_id: int = MASK_TOKEN):
        check_size("num_train_timesteps", num_train_timesteps, MAX_TIMESTEPS)
        check_size("mask_token_id", mask_token_id, MAX_WIDTH, least=0)
        self.num_inference_steps: int | None = None
        self.timesteps = torch.arange(num_train_timesteps, 0, -1, dtype=torch.float32)

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Sets evenly spaced timesteps, from all masked to clean.

        Parameters:
            num_inference_steps (`int`): Number of denoising steps.
            device (`str` or `torch.device`, *optional*): Device of `timesteps`.

        Raises:
            `ValueError`: If `num_inference_steps` is not 1 to `num_train_timesteps`.
        """
        most = self.config.num_train_timesteps
        if not 1 <= num_inference_steps <= most:
            raise ValueError(f"`num_inference_steps` must be 1 to {most}, but received {num_inference_steps}.")
        self.num_inference_steps = num_inference_steps
        steps = torch.arange(num_inference_steps, 0, -1, dtype=torch.float32, device=device)
        self.timesteps = steps * (most / num_inference_steps)

    def scale_model_input(self, sample: torch.Tensor, timestep: float | torch.Tensor | None = None) -> torch.Tensor:
        """Returns `sample`: tokens are not scaled."""
        return sample

    def previous_timestep(self, timestep: float | torch.Tensor) -> float:
        """Timestep after a denoising step from `timestep`; 0 is clean.

        Raises:
            `ValueError`: If [`~NNiTArchitectureScheduler.set_timesteps`] has not been called.
        """
        if self.num_inference_steps is None:
            raise ValueError("`num_inference_steps` is `None`: call `set_timesteps` before `step`.")
        previous = float(timestep) - self.config.num_train_timesteps / self.num_inference_steps
        return previous if previous > 0.5 else 0.0

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        *,
        temperature: float = 1.0,
        allowed_tokens: AllowedTokens | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> NNiTArchitectureSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Unmasks some of the masked tokens; at the last timestep, all of them.

        Parameters:
            model_output (`torch.Tensor`): `[B, S, V]` logits.
            timestep (`float` or `torch.Tensor`): Current timestep, one of `timesteps`.
            sample (`torch.Tensor`): `[B, S]` tokens.
            temperature (`float`, defaults to 1.0): Divides the logits.
            allowed_tokens (`Callable[[int, list[int], int], torch.Tensor]`, *optional*):
                `(row, tokens of that row, slot)` -> `[V]` booleans. Called before each single token is drawn, so that
                tokens drawn in the same step obey a common constraint.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                One for all rows, or one per row, which makes each row independent of the others.
            return_dict (`bool`, defaults to `True`): Return a [`NNiTArchitectureSchedulerOutput`] instead of a tuple.

        Raises:
            `ValueError`: If `temperature` is not positive and finite, the list of generators is not one per row, or
                [`~NNiTArchitectureScheduler.set_timesteps`] has not been called.
        """
        if not isinstance(temperature, Real) or not 0 < temperature < float("inf"):
            raise ValueError(f"`temperature` must be positive, but received {shown(temperature)}.")
        # A smaller temperature is 0 in float32, and the division below would give NaN.
        temperature = max(temperature, torch.finfo(torch.float32).tiny)
        previous = self.previous_timestep(timestep)
        unmask_probability = 1 - previous / float(timestep) if previous else 1.0

        # choose the tokens to unmask
        mask_token = self.config.mask_token_id
        logits_BSV, tokens = model_output.float().cpu(), sample.tolist()
        draws = _rand(sample.shape, generator)
        chosen = (sample.cpu() == mask_token) & (draws < unmask_probability)
        # draw them one by one, so that a constraint depends on those already drawn
        for row, slot in chosen.nonzero().tolist():
            logits = logits_BSV[row, slot]
            if allowed_tokens is not None:
                logits = logits.masked_fill(~allowed_tokens(row, tokens[row], slot), float("-inf"))
            # The largest logit becomes 0, and stays finite at any temperature.
            logits = (logits - logits.max()) / temperature
            row_generator = generator[row] if isinstance(generator, list) else generator
            tokens[row][slot] = _draw(logits.softmax(dim=-1), row_generator)

        prev_sample = torch.tensor(tokens, dtype=sample.dtype, device=sample.device).reshape(sample.shape)
        # predict the tokens that are still masked
        most_likely = model_output.argmax(dim=-1).to(sample)
        pred_original_sample = torch.where(prev_sample == mask_token, most_likely, prev_sample)
        if not return_dict:
            return prev_sample, pred_original_sample
        return NNiTArchitectureSchedulerOutput(prev_sample=prev_sample, pred_original_sample=pred_original_sample)

    def add_noise(
        self,
        original_samples: torch.Tensor,
        timesteps: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> torch.Tensor:
        """Masks tokens `[B, S]` with the probability at `timesteps`, `[B]` or one for all rows."""
        probability = torch.as_tensor(timesteps, device=original_samples.device) / self.config.num_train_timesteps
        draws = _rand(original_samples.shape, generator).to(original_samples.device)
        return original_samples.masked_fill(draws < probability.reshape(-1, 1), self.config.mask_token_id)

    def __len__(self) -> int:
        return self.config.num_train_timesteps


def _rand(shape: torch.Size, generator: torch.Generator | list[torch.Generator] | None) -> torch.Tensor:
    """Uniform random numbers on the CPU; takes generators as diffusers' `randn_tensor` does."""
    if isinstance(generator, list):
        if len(generator) != shape[0]:
            raise ValueError(f"`generator` must be one or {shape[0]} (one per row), but received {len(generator)}.")
        return torch.stack([_rand(shape[1:], row_generator) for row_generator in generator])
    device = generator.device if generator is not None else "cpu"
    return torch.rand(shape, generator=generator, device=device).cpu()


def _draw(probabilities_V: torch.Tensor, generator: torch.Generator | None) -> int:
    """A token drawn from the given probabilities."""
    device = generator.device if generator is not None else "cpu"
    return int(torch.multinomial(probabilities_V.to(device), 1, generator=generator))
