"""Private names of diffusers that this package depends on, each with the reason.

A private name can change in any release, so diffusers is capped at the releases in `TESTED_DIFFUSERS`. Private modules
are imported here and nowhere else. What else is private stands where diffusers expects it, on classes and instances;
`PRIVATE_NAMES` lists all of it. A test of the repository holds the list against the installed release, and fails on
a private name that is not on it. One of accelerate is on it too, and none of torch, huggingface_hub or peft.

Not on the list are `_interrupt`, `_num_timesteps` and `_callback_tensor_inputs` of the pipeline. They are ours, under
the names that callbacks written for other pipelines know. Nor are the keys `_class_name` and `_name_or_path` of
configurations, which belong to the file format.

Nothing of diffusers is imported with this module, which `import nnit_diffusers` imports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal


TESTED_DIFFUSERS = ">=0.42,<0.43"
LOADING_TABLES = "diffusers.pipelines.pipeline_loading_utils"
_BLOCK_METADATA = "diffusers.hooks._helpers"

_MODEL = "diffusers.models.modeling_utils:ModelMixin"
_PIPELINE = "diffusers.pipelines.pipeline_utils:DiffusionPipeline"


@dataclass(frozen=True)
class PrivateName:
    """A private name of diffusers, and why there is no way around it.

    Parameters:
        owner (`str`): Module, or `module:Class` or `module:Class.method`, that has it.
        name (`str`): The name.
        use (`str`):
            `"imported"` in this module; `"called"` or read on an instance; `"overridden"`, a method of ours takes its
            place; `"set"`, a class attribute that diffusers reads; `"looked for"`, `owner` reads it from objects that
            inherit nothing from diffusers.
        reason (`str`): What it is needed for.
        parameters (`tuple[str, ...]`): First parameters of a function or class, as this package passes them.
    """

    owner: str
    name: str
    use: Literal["imported", "called", "overridden", "set", "looked for"]
    reason: str
    parameters: tuple[str, ...] = ()


PRIVATE_NAMES = (
    # Loading and saving
    PrivateName(
        LOADING_TABLES,
        "LOADABLE_CLASSES",
        "imported",
        "Libraries whose components load from the Hub. No public way to add one.",
    ),
    PrivateName(
        LOADING_TABLES,
        "ALL_IMPORTABLE_CLASSES",
        "imported",
        "Methods that save and load a class. No public way to add one.",
    ),
    PrivateName(
        "diffusers.configuration_utils:ConfigMixin",
        "_dict_from_json_file",
        "overridden",
        "The one place where every configuration is read, and so checked. `DiffusionPipeline.download` calls it "
        "directly: overriding the public `load_config` would leave out the model index.",
        ("json_file",),
    ),
    PrivateName(
        "diffusers.utils.hub_utils:PushToHubMixin",
        "_upload_folder",
        "overridden",
        "Replaces the card, which names diffusers as the library that loads the model. `push_to_hub` and the three "
        "ways to `save_pretrained` make a card and upload it in one go.",
        ("self", "working_dir", "repo_id"),
    ),
    PrivateName(
        _PIPELINE,
        "_optional_components",
        "set",
        "Documented by `DiffusionPipeline`: the GHN can be left out.",
    ),
    # Running
    PrivateName(
        _PIPELINE,
        "_execution_device",
        "called",
        "Device of the inputs while weights are offloaded; the public `device` is where the weights wait.",
    ),
    PrivateName(
        _BLOCK_METADATA,
        "TransformerBlockRegistry",
        "imported",
        "Caches that skip blocks look up what a block returns. No public way to register one.",
    ),
    PrivateName(
        _BLOCK_METADATA,
        "TransformerBlockMetadata",
        "imported",
        "What is registered there.",
        ("return_hidden_states_index", "return_encoder_hidden_states_index"),
    ),
    PrivateName(
        f"{_MODEL}.set_attention_backend",
        "_attention_backend",
        "looked for",
        "The backend chosen by the user; a processor without the attribute is passed over.",
    ),
    PrivateName(
        f"{_MODEL}.enable_parallelism",
        "_parallel_config",
        "looked for",
        "Context parallelism; a processor without the attribute is passed over.",
    ),
    # Training, by accelerate
    PrivateName(
        "accelerate.state:AcceleratorState",
        "_reset_state",
        "called",
        "A second training run in one process may have another precision. No public way to forget the first.",
        ("reset_partial_state",),
    ),
    # What a model declares about itself
    PrivateName(
        _MODEL,
        "_supports_gradient_checkpointing",
        "set",
        "`enable_gradient_checkpointing` refuses a model without it.",
    ),
    PrivateName(
        f"{_MODEL}.__init__",
        "_gradient_checkpointing_func",
        "called",
        "The function that `enable_gradient_checkpointing` was given.",
    ),
    PrivateName(_MODEL, "_no_split_modules", "set", "`device_map` refuses a model without it."),
    PrivateName(_MODEL, "_repeated_blocks", "set", "`compile_repeated_blocks` compiles these."),
    PrivateName(_MODEL, "_keep_in_fp32_modules", "set", "`from_pretrained(dtype=)` keeps these in float32."),
    PrivateName(_MODEL, "_skip_layerwise_casting_patterns", "set", "`enable_layerwise_casting` passes these over."),
)


def add_loadable_components(tables: ModuleType, library: str, class_names: Sequence[str]) -> None:
    """Makes diffusers load components of another library from the Hub.

    Parameters:
        tables (`ModuleType`): The module `LOADING_TABLES`.
        library (`str`): Name of the library, which has the classes at its top level.
        class_names (`Sequence[str]`):
            Every class by its own name: a base class does not stand for those that extend it.

    Raises:
        `ImportError`: If this release of diffusers has no such tables.
    """
    methods = {name: ["save_pretrained", "from_pretrained"] for name in class_names}
    try:
        tables.LOADABLE_CLASSES[library] = methods
        tables.ALL_IMPORTABLE_CLASSES.update(methods)
    except AttributeError as error:
        raise ImportError(
            f"nnit_diffusers works with diffusers{TESTED_DIFFUSERS}: this release keeps what it can load elsewhere "
            f"({error}). Install one of those with `pip install 'diffusers{TESTED_DIFFUSERS}'`."
        ) from error


def register_transformer_block(block_class: type) -> None:
    """Makes the caches of diffusers work with a block that takes and returns its `hidden_states` alone."""
    from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry

    TransformerBlockRegistry.register(
        model_class=block_class,
        metadata=TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
    )
