"""The recipe of a run that is as short as can be, as the file that the examples take."""

from nnit_diffusers.training import Recipe
from nnit_diffusers.writing import write_json


SMALLEST = {
    "nested": {"max_train_steps": 2, "train_batch_size": 16, "validation_architectures": 1},
    "ghn": {
        "max_train_steps": 2,
        "num_architectures": 2,
        "train_batch_size": 16,
        "node_dim": 8,
        "map_channels": 4,
        "num_templates": 2,
        "validation_architectures": 1,
    },
    "nnit": {
        "max_train_steps": 2,
        "num_layers": 1,
        "num_attention_heads": 1,
        "attention_head_dim": 8,
        "train_batch_size": 2,
        "validation_architectures": 1,
    },
    "tuning": None,
    "evaluation": {
        "sections": ("regions",),
        "regions": ("seen",),
        "num_inference_steps": 1,
        "num_architectures": 1,
        "num_networks": 2,
        "num_selected": 1,
    },
}
FEW_EPISODES = {
    "nested": {"validation_episodes": 1, "dagger_policies": 1},
    "ghn": {"validation_episodes": 1, "dagger_policies": 1},
    "nnit": {"validation_episodes": 1},
    "evaluation": {"num_episodes": 2, "num_final_episodes": 2},
}


def write_recipe(path, task, **changes):
    """Writes the smallest recipe of a task with other settings of some stages; returns the path as text."""
    recipe = Recipe.for_task(task, "small").with_overrides(SMALLEST)
    write_json(path, recipe.with_overrides(changes).to_dict())
    return str(path)
