import json

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from mixed_table import mixed_frame, write_csv
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from nnit_diffusers import MLP, ClassificationTask
from nnit_diffusers.tasks.metadata import Features, describe_layout
from nnit_diffusers.tasks.regression import RegressionTask
from nnit_diffusers.tasks.tables import load_table_task, table_task_from_spec


def rows_of(task):
    """Inputs and targets of every split, sorted."""
    return {
        split: torch.cat([task.data(split)[0], task.data(split)[1].reshape(-1, 1).float()], dim=1).unique(dim=0)
        for split in ("train", "validation", "test")
    }


def assert_same(task, other):
    assert other.schema == task.schema
    for split, rows in rows_of(task).items():
        assert torch.equal(rows_of(other)[split], rows)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The path of a table with every type of column."""
    return write_csv(tmp_path_factory.mktemp("mixed"), mixed_frame())


def test_neither_the_type_of_the_file_nor_the_order_of_its_rows_matters(tmp_path, mixed):
    datasets.disable_progress_bars()
    frame = mixed_frame()
    frame.to_parquet(tmp_path / "table.parquet")
    datasets.Dataset.from_pandas(frame).save_to_disk(tmp_path / "saved")
    shuffled = write_csv(tmp_path, frame.sample(frac=1, random_state=0))
    task = load_table_task(mixed, "label")
    for path in (tmp_path / "table.parquet", tmp_path / "saved", shuffled):
        assert_same(task, load_table_task(path, "label"))


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_tables_of_scikit_learn_have_their_classes(tmp_path, load):
    bunch = load(as_frame=True)
    frame = bunch.frame.assign(target=[str(bunch.target_names[label]) for label in bunch.target])
    task = load_table_task(write_csv(tmp_path, frame, "flowers.csv"), "target")
    assert isinstance(task, ClassificationTask)
    assert (task.name, task.title, task.hub_task) == ("flowers", "flowers", "tabular-classification")
    assert (task.in_features, task.out_features) == (frame.shape[1] - 1, len(bunch.target_names))
    assert [features.name for features in task.observation_layout] == list(frame.columns[:-1])
    assert task.action_layout == tuple(Features(name, 1, "logit") for name in sorted(bunch.target_names))
    inputs = torch.cat([task.data(split)[0] for split in ("train", "validation", "test")])
    expected = torch.tensor(bunch.data.to_numpy(), dtype=torch.float32)
    assert torch.equal(inputs.sort(dim=0).values, expected.sort(dim=0).values)
    assert (task.min_width, task.max_width, task.min_depth, task.max_depth) == (8, 48, 1, 3)


def test_a_table_of_numbers_is_a_regression_of_raw_values(tmp_path):
    frame = load_diabetes(as_frame=True).frame
    task = load_table_task(write_csv(tmp_path, frame), "target", name="sugar", min_width=4, max_width=9, max_depth=2)
    assert isinstance(task, RegressionTask)
    assert (task.name, task.hub_task, task.action_layout) == ("sugar", "tabular-regression", (Features("target", 1),))
    assert sum(len(task.data(split)[1]) for split in ("train", "validation", "test")) == 442
    assert set(task.data("test")[1].flatten().tolist()) <= set(frame["target"])
    assert (task.regions.min_width, task.regions.max_width, task.regions.max_depth) == (4, 9, 2)
    assert task.score([MLP(10, [4], 1)])[0].value is not None


def test_inputs_of_every_unit_are_standardised(tmp_path):
    rng = np.random.default_rng(0)
    scales = {"tiny": 1e-15, "unit": 1.0, "huge": 1e15}
    frame = pd.DataFrame({name: rng.normal(size=200) * scale for name, scale in scales.items()})
    frame["far"] = 1.7e9 + rng.normal(size=200)
    task = load_table_task(write_csv(tmp_path, frame.assign(y=frame["unit"])), "y")
    standard = (task.data("train")[0] - task.observation_mean) / task.observation_std
    assert torch.allclose(standard.std(dim=0, correction=0), torch.ones(4), atol=1e-3)
    chosen = torch.from_numpy(task.rows.split == "train").numpy()
    far = frame["far"].to_numpy()[chosen]
    assert np.allclose(standard[:, 3], (far - far.mean()) / far.std(), atol=1e-3)


def test_the_description_lists_what_was_found(mixed):
    task = load_table_task(mixed, "label")
    assert task.description == "Predict 'label', one of 3 classes, from 6 columns of 'table.csv', a table of 297 rows."
    lines = task.describe().splitlines()
    frame = mixed_frame().dropna(subset="label")
    missing = frame[task.rows.split == "train"].isna().sum()
    sizes = {split: int((task.rows.split == split).sum()) for split in ("train", "validation", "test")}
    labels = task.rows.targets_of("train")
    assert lines[0] == "table: 297 rows ({train} for train, {validation} for validation, {test} for test)".format(
        **sizes
    )
    assert lines[1:11] == [
        "  left out: 3 rows without 'label'",
        "  numbers: age, price, paid, weight",
        "  dates, in days: when",
        "  categories, one-hot: color (3)",
        f"  far from zero, shifted: price - {task.schema.columns[1].offset:.10g}",
        f"  missing in training, filled and marked: age ({missing['age']}), color ({missing['color']})",
        "  dropped: code (an id: every row has another text)",
        "  dropped: version (constant: always '1')",
        "  inputs of a network: 10",
        "  target label: 3 classes",
    ]
    share = f"{(labels == 0).float().mean():.1%}"
    assert lines[11].startswith(f"    a: {share} of train, ")
    assert lines[14] == f"  always answering 'a': accuracy {share} in training"
    rows = [int((labels == index).sum()) for index in range(3)]
    assert lines[15] == (
        f"  imbalanced: 'c' has {rows[2]} rows for training, 'a' {rows[0]}; see balanced_accuracy beside the accuracy"
    )


def test_the_description_of_a_regression_has_the_statistics_of_its_target(tmp_path):
    frame = load_diabetes(as_frame=True).frame
    task = load_table_task(write_csv(tmp_path, frame), "target")
    train = task.data("train")[1].double()
    assert task.describe().splitlines()[-1] == (
        f"  target target: a number; in training mean {train.mean():.6g}, std {train.std(correction=0):.6g}, "
        f"range {train.min().item():.6g}…{train.max().item():.6g}"
    )


def split_data_set(folder, labels):
    """A saved data set whose splits have these labels, and random inputs."""
    datasets.disable_progress_bars()
    rng = np.random.default_rng(0)
    saved = {
        split: datasets.Dataset.from_dict({"x": rng.normal(size=len(each)), "label": each})
        for split, each in labels.items()
    }
    datasets.DatasetDict(saved).save_to_disk(folder / "saved")
    return folder / "saved"


def test_a_class_that_is_in_no_row_of_a_split_is_reported(tmp_path):
    labels = {"train": ["a", "b", "c"] * 20, "validation": ["a", "b"] * 10, "test": ["c"] * 10}
    task = load_table_task(split_data_set(tmp_path, labels), "label")
    assert [len(task.data(split)[1]) for split in labels] == [60, 20, 10]
    assert task.describe().splitlines()[-2:] == [
        "  warning: no row for validation of c",
        "  warning: no row for test of a, b",
    ]


def test_a_class_that_training_lacks_is_refused_with_its_row(tmp_path):
    labels = {"train": ["a", "b"] * 30, "test": ["a", "z"]}
    with pytest.raises(ValueError, match=r"'label' must hold a class of training \('a', 'b'\).* row 62 holds 'z'"):
        load_table_task(split_data_set(tmp_path, labels), "label")


def test_a_split_without_rows_is_refused(tmp_path):
    labels = {"train": ["a", "b"] * 30, "validation": ["a"], "test": [None]}
    with pytest.raises(ValueError, match=r"Every split of '.*' must have rows with a target, but 'test' has none"):
        load_table_task(split_data_set(tmp_path, labels), "label")


def test_balanced_accuracy_counts_every_class_alike(tmp_path):
    labels = {"train": ["a", "b"] * 30, "validation": ["a"] * 18 + ["b"] * 2, "test": ["b"] * 5}
    task = load_table_task(split_data_set(tmp_path, labels), "label")

    def always_a(inputs):
        return torch.tensor([1.0, 0.0]).expand(len(inputs), 2)

    def always_b(inputs):
        return torch.tensor([0.0, 1.0]).expand(len(inputs), 2)

    scores = task.score([always_a, always_b])
    assert [score.num_successes for score in scores] == [18, 2]
    assert [score.metrics["balanced_accuracy"] for score in scores] == [0.5, 0.5]
    assert [score.metrics["non_finite"] for score in scores] == [0, 0]
    test = task.score([always_a, always_b], split="test", num_episodes=3)
    assert [(score.num_episodes, score.metrics["balanced_accuracy"]) for score in test] == [(3, 0.0), (3, 1.0)]


def test_a_task_is_made_again_from_its_specification(tmp_path, mixed):
    task = load_table_task(mixed, "label", name="mine", min_width=5, max_width=7)
    spec = json.loads(json.dumps(task.spec()))
    again = table_task_from_spec(spec)
    assert_same(task, again)
    assert again.spec() == task.spec()
    # the recorded schema holds, and the table may be elsewhere
    frame = mixed_frame()
    frame["color"] = frame["color"].replace("red", "pink")
    moved = table_task_from_spec(spec, write_csv(tmp_path, frame))
    assert moved.schema == task.schema
    red = 2 + 1 + 2  # age and whether it is missing, price, and blue, green before red
    assert describe_layout(task.observation_layout[3:4]) == "color 0:3 (one-hot: blue, green, red)"
    assert task.rows.inputs[:, red].any()
    assert not moved.rows.inputs[:, red].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "gone/table.csv"}, r"The table of 'table' is no longer at 'gone/table.csv'; give its place with"),
        ({"kind": "other"}, r"A table's task must be specified by"),
        ({"source": 7}, r"`source` of a table's task must be a text, but received 7"),
        ({"target": "age"}, r"must be 'label' and 'classes' by `schema`, but received 'age'"),
        ({"grid": {"min_width": 1}}, r"`grid` of a table's task must have"),
        (
            {"grid": {"min_width": 1, "max_width": 10**9, "min_depth": 1, "max_depth": 1}},
            r"`max_width` must be an integer of at most 65536",
        ),
        ({"schema": {}}, r"`schema` must be an object of \['columns', 'dropped', 'target'\]"),
        ({"more": 1}, r"A table's task must be specified by"),
    ],
)
def test_a_specification_that_is_none_is_refused_in_one_line(mixed, change, message):
    spec = {**load_table_task(mixed, "label").spec(), **change}
    with pytest.raises((ValueError, OSError), match=message) as raised:
        table_task_from_spec(spec)
    assert "\n" not in str(raised.value)


def test_a_table_must_fit_the_schema_that_is_given(tmp_path, mixed):
    schema = load_table_task(mixed, "label").schema
    with pytest.raises(ValueError, match=r"must have a column 'age', but has"):
        load_table_task(write_csv(tmp_path, mixed_frame().drop(columns="age")), "label", schema=schema)
    unknown = mixed_frame().replace({"label": {"c": "d"}})
    with pytest.raises(ValueError, match=r"a class of training \('a', 'b', 'c'\) in every row, but row \d+ holds 'd'"):
        load_table_task(write_csv(tmp_path, unknown), "label", schema=schema)


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (mixed_frame(), {"target": "labl"}, r"must have a column 'labl', but has .* Is 'label' meant\?"),
        (mixed_frame(52), {}, None),
        (mixed_frame(45), {}, r"must have 50 rows with a target or more, but '.*' has 45 with a 'label'"),
        (mixed_frame().iloc[:0], {}, r"must have 50 rows with a target or more, but '.*' has 0 "),
        (mixed_frame(), {"kind": "numbers"}, r"Column 'label' must hold a number in every row, but row 1 holds"),
        (mixed_frame(), {"min_width": 9, "max_width": 8}, r"`min_width` and `max_width` must satisfy"),
        (mixed_frame().assign(age=np.inf), {}, r"Column 'age' must hold a finite number, .*, but row 1 holds 'inf'"),
    ],
)
def test_a_table_that_cannot_be_learned_is_refused_in_one_line(tmp_path, frame, options, message):
    path = write_csv(tmp_path, frame)
    if message is None:
        frame["label"] = ["a", "b"] * 26
        assert load_table_task(write_csv(tmp_path, frame), "label").out_features == 2
        return
    with pytest.raises(ValueError, match=message) as raised:
        load_table_task(path, **{"target": "label", **options})
    assert "\n" not in str(raised.value)
