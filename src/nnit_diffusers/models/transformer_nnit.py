"""NNiTTransformer: one diffusion transformer over architecture tokens and weight patches.

Shape legend: B networks, S slots for hidden layers (architecture tokens), P patches, N = S + P tokens, p side of a
patch, D model width, H attention heads, K size of a head, V architecture vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin, AttentionModuleMixin, FeedForward
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.utils import BaseOutput, apply_lora_scale
from torch import nn

from ..architecture import MASK_TOKEN, WIDTH_TOKEN_OFFSET
from ..diffusers_internals import register_transformer_block
from ..loading.hub import NNiTModelMixin, check_safetensors
from ..loading.limits import MAX_DEPTH, MAX_PARAMETERS, MAX_PATCH_SIZE, check_number, check_sizes, check_total
from .embeddings import NNiTArchitectureEmbedding, NNiTPositionEmbedding, TaskEmbedding, check_labels, check_task_names


_TIME_DIM = 128


@dataclass
class NNiTTransformerOutput(BaseOutput):
    """Output of [`NNiTTransformer`].

    Attributes:
        sample (`torch.Tensor`): `[B, P, p * p]`, predicted clean patches.
        architecture_logits (`torch.Tensor`):
            `[B, S, V]`, logits over the token of each slot; `-inf` for the mask token, which is never predicted.
    """

    sample: torch.Tensor
    architecture_logits: torch.Tensor


class NNiTAttnProcessor:
    """Scaled dot-product attention through the backend chosen with `set_attention_backend`."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self, attn: NNiTAttention, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        # project to queries, keys and values
        if attn.fused_projections:
            query, key, value = attn.to_qkv(hidden_states).chunk(3, dim=-1)
        else:
            query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        query, key, value = (projected.unflatten(-1, (attn.heads, -1)) for projected in (query, key, value))  # BNHK
        # normalise queries and keys
        query, key = (
            norm(projected.to(norm.weight.dtype)).to(value.dtype)
            for norm, projected in ((attn.norm_q, query), (attn.norm_k, key))
        )
        # attention
        attended = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        # output projection and dropout
        attended = attended.flatten(2, 3).to(query.dtype)
        return attn.to_out[1](attn.to_out[0](attended))


class NNiTAttention(nn.Module, AttentionModuleMixin):
    """Bidirectional self-attention with normalised queries and keys."""

    to_qkv: nn.Linear  # exists only while projections are fused

    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float = 0.0):
        super().__init__()
        self.heads = heads
        self.inner_dim = heads * dim_head
        self.use_bias = True
        self.norm_q = nn.RMSNorm(dim_head, eps=1e-6)
        self.norm_k = nn.RMSNorm(dim_head, eps=1e-6)
        self.to_q = nn.Linear(dim, self.inner_dim)
        self.to_k = nn.Linear(dim, self.inner_dim)
        self.to_v = nn.Linear(dim, self.inner_dim)
        self.to_out = nn.ModuleList([nn.Linear(self.inner_dim, dim), nn.Dropout(dropout)])
        self.processor = NNiTAttnProcessor()

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        return self.processor(self, hidden_states, attention_mask, **kwargs)


class NNiTTransformerBlock(nn.Module):
    """Attention and feed-forward, modulated by the timesteps (adaLN-single: one projection for all blocks)."""

    def __init__(self, dim: int, num_attention_heads: int, attention_head_dim: int, mlp_ratio: float, dropout: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.attn = NNiTAttention(dim, num_attention_heads, attention_head_dim, dropout)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.ff = FeedForward(dim, inner_dim=int(dim * mlp_ratio), dropout=dropout, activation_fn="gelu-approximate")
        self.scale_shift_table = nn.Parameter(torch.zeros(6, dim))

    def forward(
        self,
        hidden_states: torch.Tensor,
        temb: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> torch.Tensor:
        """`hidden_states` `[B, N, D]`, `temb` `[B, 6, D]`, `attention_mask` `[B, 1, 1, N]` -> `[B, N, D]`."""
        modulation = (self.scale_shift_table + temb).to(hidden_states.dtype).unsqueeze(2).unbind(1)
        shift_attn, scale_attn, gate_attn, shift_ff, scale_ff, gate_ff = modulation
        # self-attention
        normed = self.norm1(hidden_states) * (1 + scale_attn) + shift_attn
        hidden_states = hidden_states + gate_attn * self.attn(normed, attention_mask, **(attention_kwargs or {}))
        # feed-forward
        normed = self.norm2(hidden_states) * (1 + scale_ff) + shift_ff
        return hidden_states + gate_ff * self.ff(normed)


class NNiTTransformer(NNiTModelMixin, ConfigMixin, AttentionMixin, CacheMixin, PeftAdapterMixin):
    """Diffusion transformer that denoises weight patches and unmasks architecture tokens in one sequence.

    Implements NNiT (https://huggingface.co/papers/2603.00180): bidirectional attention over the sequence
    `[architecture tokens | patch tokens]`. Architecture and patches have a timestep each, so one model gives
    p(w given a), p(a) and p(a, w). It predicts clean patches.

    Parameters:
        in_features, out_features (`int`): Sizes of input and output of the generated networks.
        max_width (`int`, defaults to 64):
            Largest width seen in training, and the largest in [`NNiTTransformerOutput.architecture_logits`].
            Positions repeat in wider layers.
        max_depth (`int`, defaults to 4):
            Number of slots for hidden layers in training. Further slots of a deeper network are like the last one.
        patch_size (`int`, defaults to 8): Side of a patch.
        num_layers (`int`, defaults to 6): Transformer blocks.
        num_attention_heads (`int`, defaults to 4): Attention heads of a block.
        attention_head_dim (`int`, defaults to 52): Size of a head; heads times size is the model width.
        mlp_ratio (`float`, defaults to 4.0): Width of the feed-forward, in units of the model width.
        dropout (`float`, defaults to 0.0): Dropout in attention and feed-forward.
        task_names (`list[str]`, *optional*): Tasks that the model is conditional on; `None` for a model of one task.

    Raises:
        `ValueError`: If a size is not a positive integer, or exceeds what `loading.limits` allows, or `task_names` are
            not distinct names.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["NNiTTransformerBlock"]
    _repeated_blocks = ["NNiTTransformerBlock"]
    _keep_in_fp32_modules = ["time_embed", "architecture_time_embed", "scale_shift_table"]
    _skip_layerwise_casting_patterns = [
        "patch_embed",
        "position_embed",
        "architecture_embed",
        "task_embed",
        "time_embed",
        "norm",
    ]

    @register_to_config
    def __init__(
        self,
        in_features: int,
        out_features: int,
        max_width: int = 64,
        max_depth: int = 4,
        patch_size: int = 8,
        num_layers: int = 6,
        num_attention_heads: int = 4,
        attention_head_dim: int = 52,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        task_names: list[str] | None = None,
    ):
        super().__init__()
        # check every size before memory is allocated
        check_sizes(in_features=in_features, out_features=out_features, max_width=max_width)
        num_tasks = check_task_names(task_names)
        check_sizes(max_depth=max_depth, num_attention_heads=num_attention_heads, most=MAX_DEPTH)
        check_sizes(num_layers=num_layers, most=MAX_DEPTH, least=0)
        check_sizes(patch_size=patch_size, most=MAX_PATCH_SIZE)
        check_sizes(attention_head_dim=attention_head_dim)
        check_number("dropout", dropout, 0, 1)
        dim = num_attention_heads * attention_head_dim
        check_number("mlp_ratio", mlp_ratio, 1 / dim, MAX_DEPTH)
        # bound the total number of parameters
        width = (
            num_layers * (4 + 2 * mlp_ratio) * dim + 15 * dim + 2 * patch_size**2 + max_width + max_depth + num_tasks
        )
        check_total("The parameters of `NNiTTransformer`", dim * width, MAX_PARAMETERS)
        # token embeddings
        self.patch_embed = nn.Linear(patch_size**2, dim)
        self.position_embed = NNiTPositionEmbedding(dim, max_width, patch_size)
        self.architecture_embed = NNiTArchitectureEmbedding(dim)
        self.slot_embed = nn.Embedding(max_depth, dim)
        self.fan_in_proj = nn.Linear(dim, dim, bias=False)
        self.fan_out_proj = nn.Linear(dim, dim, bias=False)

        # timestep embeddings and adaLN modulation
        self.time_proj = Timesteps(_TIME_DIM, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embed = TimestepEmbedding(_TIME_DIM, dim)
        self.architecture_time_embed = TimestepEmbedding(_TIME_DIM, dim)
        self.modulation = nn.Linear(dim, 6 * dim)
        self.task_embed = TaskEmbedding(num_tasks, dim) if num_tasks else None

        # transformer blocks and output heads
        self.transformer_blocks = nn.ModuleList(
            NNiTTransformerBlock(dim, num_attention_heads, attention_head_dim, mlp_ratio, dropout)
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.modulation_out = nn.Linear(dim, 2 * dim)
        self.proj_out = nn.Linear(dim, patch_size**2)
        self.architecture_head = nn.Linear(dim, max_width + WIDTH_TOKEN_OFFSET + 1)
        self.gradient_checkpointing = False
        self._initialize_weights()

    def _initialize_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        # Small values: every block starts near the identity, and the first prediction near zero, the mean of the data.
        # Not zeros: the effect of an adapter or a cache must be visible in the output of an untrained model.
        for module in (self.modulation, self.modulation_out, self.proj_out, self.architecture_head):
            nn.init.normal_(module.weight, std=0.02)

    def load_lora_adapter(self, pretrained_model_name_or_path_or_dict: Any, *args: Any, **kwargs: Any) -> Any:
        """Like [`~loaders.PeftAdapterMixin.load_lora_adapter`], but loads only safetensors, never a pickle.

        Raises:
            `ValueError`: If `use_safetensors=False`.
        """
        check_safetensors(kwargs.get("use_safetensors"))
        return super().load_lora_adapter(
            pretrained_model_name_or_path_or_dict, *args, **{**kwargs, "use_safetensors": True}
        )

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        architecture_tokens: torch.Tensor,
        architecture_timestep: torch.Tensor,
        patch_positions: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        task_labels: torch.Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> NNiTTransformerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Predicts clean patches and architecture tokens.

        Parameters:
            hidden_states (`torch.Tensor`):
                `[B, P, p * p]` noisy patches; P may be 0 to predict only architectures.
            timestep (`torch.Tensor`): `[B]`, noise level of the patches, 0 (clean) to 1000 (noise).
            architecture_tokens (`torch.Tensor`): `[B, S]`; `MASK_TOKEN` where unknown.
            architecture_timestep (`torch.Tensor`): `[B]`, 0 (all tokens known) to 1000 (all tokens masked).
            patch_positions (`torch.Tensor`): `[B, P, 5]`; see [`WeightPatchBatch`].
            attention_mask (`torch.Tensor`, *optional*): `[B, P]`, `True` for patches that exist, `False` for padding.
            task_labels (`torch.Tensor`, *optional*):
                `[B]`, indices into `task_names`; their number, or `None`, is a network of any task.
            attention_kwargs (`dict`, *optional*): Passed to the attention processor; `scale` scales LoRA layers.
            return_dict (`bool`, defaults to `True`): Return a [`NNiTTransformerOutput`] instead of a tuple.

        Raises:
            `ValueError`: If `task_labels` do not fit `task_names`.
        """
        num_networks, num_slots = architecture_tokens.shape
        dtype = hidden_states.dtype
        # embed both timesteps
        temb = self.time_embed(self.time_proj(timestep.expand(num_networks)).to(self._time_dtype))
        temb = temb + self.architecture_time_embed(
            self.time_proj(architecture_timestep.expand(num_networks)).to(self._time_dtype)
        )
        check_labels(task_labels, self.config.task_names, num_networks)
        if self.task_embed is not None:
            temb = temb + self.task_embed(task_labels, num_networks).to(temb)
        temb = F.silu(temb).to(dtype)
        modulation = self.modulation(temb).unflatten(-1, (6, -1))

        # embed architecture tokens and patches as one sequence
        hidden_states = self._embed(hidden_states, architecture_tokens, patch_positions)
        if attention_mask is not None:
            attention_mask = F.pad(attention_mask, (num_slots, 0), value=True)[:, None, None]  # B11N
        # transformer blocks
        for block in self.transformer_blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(
                    block, hidden_states, modulation, attention_mask, attention_kwargs
                )
            else:
                hidden_states = block(hidden_states, modulation, attention_mask, attention_kwargs)

        # predict clean patches
        scale, shift = self.modulation_out(temb)[:, None].chunk(2, dim=-1)
        hidden_states = self.norm_out(hidden_states) * (1 + scale) + shift
        sample = self.proj_out(hidden_states[:, num_slots:])
        # predict architecture tokens, never the mask
        is_mask = torch.arange(self.architecture_head.out_features, device=sample.device) == MASK_TOKEN
        logits = self.architecture_head(hidden_states[:, :num_slots]).masked_fill(is_mask, float("-inf"))
        if not return_dict:
            return sample, logits
        return NNiTTransformerOutput(sample=sample, architecture_logits=logits)

    @property
    def _time_dtype(self) -> torch.dtype:
        return self.time_embed.linear_1.weight.dtype

    def _embed(
        self, patches: torch.Tensor, architecture_tokens: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """`[B, S + P, D]` tokens; those of patches include the known input and output size of their layer."""
        num_networks, num_slots = architecture_tokens.shape
        dtype = patches.dtype
        # sizes of all layers from input to output, as tokens
        ends = torch.tensor([self.config.in_features, self.config.out_features], device=architecture_tokens.device)
        ends = (ends + WIDTH_TOKEN_OFFSET).expand(num_networks, 2)
        # Positions repeat in a layer wider than `max_width`, so it gets the size `max_width`.
        hidden = architecture_tokens.clamp(max=self.config.max_width + WIDTH_TOKEN_OFFSET)
        sizes = torch.cat([ends[:, :1], hidden, ends[:, 1:]], dim=1)
        sizes_BSD = self.architecture_embed(sizes, dtype)

        # patches, their positions, and the sizes of their layers
        _, layer, layers_behind, _, _ = positions.unbind(-1)
        fan_out_index = torch.where(layers_behind == 0, num_slots + 1, layer + 1)
        tokens = self.patch_embed(patches) + self.position_embed(positions, dtype)
        for projection, index in ((self.fan_in_proj, layer), (self.fan_out_proj, fan_out_index)):
            projected = projection(sizes_BSD)
            tokens = tokens + projected.gather(1, index[..., None].expand(-1, -1, projected.shape[-1]))
        # architecture tokens and their slots
        slot_index = torch.arange(num_slots, device=architecture_tokens.device).clamp(max=self.config.max_depth - 1)
        slots = sizes_BSD[:, 1:-1] + self.slot_embed(slot_index).to(dtype)
        return torch.cat([slots, tokens], dim=1)


register_transformer_block(NNiTTransformerBlock)
