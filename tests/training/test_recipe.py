"""The settings of a run: chosen from the task, overridden one by one, read from a file."""

import json

import numpy as np
import pandas
import pytest
from tiny_tasks import TinyDataTask

from nnit_diffusers import ClassificationTask, get_task
from nnit_diffusers.tasks.tables import load_table_task
from nnit_diffusers.training import DemonstrationsConfig, Recipe


def table_of(folder, num_rows):
    """Numbers in two columns."""
    values = np.random.default_rng(0).normal(size=(num_rows, 2))
    path = folder / f"{num_rows}.csv"
    pandas.DataFrame(values, columns=["x", "y"]).to_csv(path, index=False)
    return load_table_task(path, "y")


class WideTask(TinyDataTask):
    max_width = 256


class OneLayerTask(ClassificationTask):
    """A task whose grid has a single depth and a single width."""

    name = "one_layer"
    in_features, out_features = 3, 2
    min_width = max_width = 6
    min_depth = max_depth = 1

    def load(self, split):
        raise NotImplementedError("A recipe needs no data.")


def test_larger_presets_train_larger_models_for_longer():
    small, base, large = (Recipe.for_task(TinyDataTask(), preset) for preset in ("small", "base", "large"))
    for smaller, larger in ((small, base), (base, large)):
        for stage in ("nested", "ghn", "nnit", "tuning"):
            assert getattr(smaller, stage).max_train_steps < getattr(larger, stage).max_train_steps
        assert smaller.nnit.num_layers < larger.nnit.num_layers
        assert smaller.evaluation.num_networks < larger.evaluation.num_networks


def test_sizes_depend_on_the_task():
    narrow, wide = (Recipe.for_task(task) for task in (TinyDataTask(), WideTask()))
    assert (narrow.nnit.patch_size, wide.nnit.patch_size) == (8, 16)
    assert (narrow.ghn.upsampling, wide.ghn.upsampling) == (8, 16)
    # narrow networks are drawn more often where they are rare
    assert Recipe.for_task(OneLayerTask()).ghn.narrow_fraction == 0 < wide.ghn.narrow_fraction
    assert narrow.ghn.max_train_steps < wide.ghn.max_train_steps


def test_policies_are_tuned_for_longer_and_closer_to_the_expert_narrow_ones_most():
    policies, classifiers = (Recipe.for_task(get_task(name)) for name in ("pickcube", "digits"))
    assert policies.tuning.task_loss_weight > 10 * classifiers.tuning.task_loss_weight
    assert policies.tuning.narrow_fraction > policies.nnit.narrow_fraction
    assert policies.tuning.max_train_steps > classifiers.tuning.max_train_steps


def test_networks_of_a_data_set_learn_to_be_generated_in_one_step_and_those_of_a_table_do_not(tmp_path):
    assert Recipe.for_task(get_task("digits")).tuning.one_step_loss_weight == 1
    assert Recipe.for_task(table_of(tmp_path, 200)).tuning.one_step_loss_weight == 0


def test_standardised_actions_take_twice_the_steps(monkeypatch):
    task = get_task("pickcube")
    usual = Recipe.for_task(task, "small")
    monkeypatch.setattr(type(task), "standardises_actions", True)
    exact = Recipe.for_task(task, "small")
    for stage in ("nested", "ghn", "nnit", "tuning"):
        assert getattr(exact, stage).max_train_steps == 2 * getattr(usual, stage).max_train_steps
    for before, after in ((usual.ghn, exact.ghn), (usual.nested, exact.nested)):
        assert [step / after.max_train_steps for step in after.dagger_steps] == pytest.approx(
            [step / before.max_train_steps for step in before.dagger_steps], abs=1e-3
        )


def test_few_rows_of_a_table_take_fewer_steps(tmp_path):
    few, many = (Recipe.for_task(table_of(tmp_path, num_rows), "small") for num_rows in (300, 6000))
    assert few.ghn.max_train_steps < many.ghn.max_train_steps
    assert few.tuning.max_train_steps < many.tuning.max_train_steps and few.nnit == many.nnit


def test_a_data_set_has_no_expert_and_a_robot_without_data_has_one(tmp_path):
    assert Recipe.for_task(get_task("digits")).demonstrations is None
    assert Recipe.for_task(get_task("digits")).ghn.dagger_steps == ()
    robot = Recipe.for_task(get_task("pickcube"))
    assert robot.demonstrations == DemonstrationsConfig()
    assert len(robot.ghn.dagger_steps) == 3 and max(robot.ghn.dagger_steps) < robot.ghn.max_train_steps
    assert Recipe.for_task(get_task("pickcube", data_dir=tmp_path)).demonstrations is None


def test_tuning_is_by_function_and_has_its_own_seed():
    recipe = Recipe.for_task(TinyDataTask())
    assert recipe.tuning.function_loss_weight > 0 == recipe.nnit.function_loss_weight
    assert recipe.tuning.seed != recipe.nnit.seed
    # it continues the same model
    for name in ("patch_size", "num_layers", "num_attention_heads", "attention_head_dim"):
        assert getattr(recipe.tuning, name) == getattr(recipe.nnit, name)


def test_a_task_of_one_width_and_one_layer_has_a_recipe():
    recipe = Recipe.for_task(OneLayerTask(), "small")
    evaluation = recipe.evaluation.for_task(OneLayerTask())
    assert evaluation.documented_architecture == (6,)
    assert evaluation.parameter_range[0] < evaluation.parameter_range[1]


def test_a_recipe_survives_json():
    recipe = Recipe.for_task(get_task("pickcube"), "large")
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_overrides_change_single_settings_of_single_stages():
    recipe = Recipe.for_task(TinyDataTask(), "small")
    changed = recipe.with_overrides(
        {"ghn": {"max_train_steps": 7, "learning_rate": 1}, "evaluation": {"steps": [1, 2]}, "tuning": None}
    )
    assert (changed.ghn.max_train_steps, changed.ghn.learning_rate) == (7, 1.0)
    assert changed.ghn.num_templates == recipe.ghn.num_templates
    assert changed.evaluation.steps == (1, 2)
    assert changed.tuning is None and changed.nnit == recipe.nnit
    # a stage that was left out begins with its defaults
    assert changed.with_overrides({"demonstrations": {"num_episodes": 5}}).demonstrations.num_episodes == 5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"gnh": {}}, r"stage must be one of \['demonstrations', 'ghn', .*but received 'gnh'"),
        ({"ghn": {"steps": 5}}, r"setting of `ghn` must be one of .*'max_train_steps'.*but received 'steps'"),
        ({"ghn": {"max_train_steps": "many"}}, "`ghn.max_train_steps` must be of type int, but received 'many'"),
        ({"ghn": {"max_train_steps": 1.5}}, "`ghn.max_train_steps` must be of type int, but received 1.5"),
        ({"ghn": {"use_ema": 1}}, "`ghn.use_ema` must be of type bool, but received 1"),
        ({"nnit": {"optimizer": "sgd"}}, r"`nnit.optimizer` must be of type Literal.*muon.*but received 'sgd'"),
        ({"evaluation": {"sections": ["table"]}}, "`evaluation.sections` must be .*regions.*, but received .table."),
        ({"ghn": None}, "`ghn` cannot be left out"),
    ],
)
def test_wrong_settings_are_refused_with_what_is_allowed(overrides, message):
    with pytest.raises(ValueError, match=message):
        Recipe.for_task(TinyDataTask()).with_overrides(overrides)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"`preset` must be one of \['small', 'base', 'large'\], but received 'tiny'"):
        Recipe.for_task(TinyDataTask(), "tiny")


@pytest.mark.parametrize("content", [{}, {"task": "digits"}, {"more": 1}])
def test_an_incomplete_recipe_is_refused(content, tmp_path):
    complete = Recipe.for_task(TinyDataTask()).to_dict()
    damaged = {**complete, **content} if "more" in content else content
    (tmp_path / "recipe.json").write_text(json.dumps(damaged))
    with pytest.raises(ValueError, match="A recipe must have"):
        Recipe.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="A recipe must have"):
        Recipe.from_pretrained(tmp_path / "recipe.json")


def test_tuning_has_the_model_of_the_transformer():
    recipe = Recipe.for_task(TinyDataTask()).with_overrides({"nnit": {"patch_size": 4, "scheduler_shift": 1.0}})
    assert (recipe.tuning.patch_size, recipe.tuning.scheduler_shift) == (4, 1.0)
    with pytest.raises(ValueError, match="`tuning.patch_size` must be as in `nnit`, 4, but received 8"):
        recipe.with_overrides({"tuning": {"patch_size": 8}})
    # a tuning that was left out is one by function again
    restored = recipe.with_overrides({"tuning": None}).with_overrides({"tuning": {"max_train_steps": 3}}).tuning
    assert restored.function_loss_weight > 0 < restored.task_loss_weight and restored.seed != recipe.nnit.seed


def test_rounds_of_dagger_keep_their_place_in_a_run_of_another_length():
    recipe = Recipe.for_task(get_task("pickcube"), "small")
    for factor in (0.1, 10):
        steps = round(factor * recipe.ghn.max_train_steps)
        moved = recipe.with_overrides({"ghn": {"max_train_steps": steps}}).ghn
        assert moved.dagger_steps == tuple(round(factor * step) for step in recipe.ghn.dagger_steps)
    with pytest.raises(ValueError, match=r"`dagger_steps` must be at most `max_train_steps`, 5, but received \[6\]"):
        recipe.with_overrides({"ghn": {"max_train_steps": 5, "dagger_steps": [6]}})
