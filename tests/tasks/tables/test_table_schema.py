import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_table import mixed_frame

from nnit_diffusers.tasks.metadata import describe_layout
from nnit_diffusers.tasks.tables import CategoryColumn, DroppedColumn, NumberColumn, TableSchema, Target
from nnit_diffusers.tasks.tables.cells import parse_frame
from nnit_diffusers.tasks.tables.inference import infer_schema


ROWS = 60


def inferred(column, target=None, kind=None, is_train=None):
    """What is inferred of one column beside a valid one, by all rows or those for training."""
    size = len(column)
    target = ["a", "b"] * (size // 2) + ["a"] * (size % 2) if target is None else target
    frame = pd.DataFrame({"x": column, "valid": np.arange(size) % 7 + 0.5, "y": target})
    is_train = np.ones(size, dtype=bool) if is_train is None else is_train
    return infer_schema(parse_frame(frame), is_train, "y", kind)


def column_of(schema):
    """The column `x` of a schema."""
    return next(each for each in (*schema.columns, *schema.dropped) if each.name == "x")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([1.5, 2.5, 4.0] * 20, NumberColumn("x", 0.0, 2.5, False)),
        ([1, 2, 3] * 20, NumberColumn("x", 0.0, 2.0, False)),
        (["1", " 2.5", "+3e0"] * 20, NumberColumn("x", 0.0, 2.5, False)),
        ([True, False, False] * 20, NumberColumn("x", 0.0, 0.0, False)),
        (["TRUE", "false", "False"] * 20, NumberColumn("x", 0.0, 0.0, False)),
        ([1.0, None, 3.0] * 20, NumberColumn("x", 0.0, 2.0, True)),
        (["1", "?", "NA"] * 10 + ["3"] * 30, NumberColumn("x", 0.0, 3.0, True)),
        ([1e6, 1e6 + 1, 1e6 + 2] * 20, NumberColumn("x", 1e6 + 1, 1e6 + 1, False)),
        (["2020-01-01", "2020-01-03", "2020-01-02 12:00"] * 20, NumberColumn("x", 18263.5, 18263.5, False, True)),
        (["2020/01/01", "2020-01-03T00:00:00+00:00"] * 30, NumberColumn("x", 18263.0, 18263.0, False, True)),
        (list(pd.date_range("2020-01-01", periods=ROWS)), NumberColumn("x", 18291.5, 18291.5, False, True)),
        (["u", "t", None] * 20, CategoryColumn("x", ("t", "u"), True)),
        (["1", "x", "2.0"] * 20, CategoryColumn("x", ("1", "2", "x"), False)),
        (["1_0", "2_0"] * 30, CategoryColumn("x", ("1_0", "2_0"), False)),
        (["same", None] * 30, CategoryColumn("x", (), True)),
        ([7.5, None] * 30, CategoryColumn("x", (), True)),
        ([None] * ROWS, DroppedColumn("x", "empty in training")),
        ([7] * ROWS, DroppedColumn("x", "constant: always '7'")),
        ([f"u{row}" for row in range(ROWS)], DroppedColumn("x", "an id: every row has another text")),
        (list(range(100, 100 + ROWS))[::-1], DroppedColumn("x", "an id: every row has another integer")),
        ([f"u{row // 2}" for row in range(ROWS)], DroppedColumn("x", "text: 30 different ones in 60 rows")),
        (
            [row + 0.5 for row in range(ROWS - 1)] + ["n.d."],
            DroppedColumn("x", "an id: every row has another text"),
        ),
        (
            [row // 2 + 0.5 for row in range(ROWS - 1)] + ["n.d."],
            DroppedColumn("x", "numbers or dates, but some rows hold text, such as 'n.d.'"),
        ),
    ],
)
def test_the_type_of_a_column_is_inferred(column, expected):
    assert column_of(inferred(column)) == expected


def test_different_integers_are_an_id_by_their_name_or_if_they_number_the_rows():
    squares = [row * row for row in range(ROWS)]
    frame = pd.DataFrame({"patient_id": squares, "paid": squares, "y": ["a", "b"] * (ROWS // 2)})
    schema = infer_schema(parse_frame(frame), np.ones(ROWS, dtype=bool), "y")
    assert [column.name for column in schema.columns] == ["paid"]
    assert [column.name for column in schema.dropped] == ["patient_id"]


def test_the_32_most_frequent_categories_have_an_input():
    column = [f"c{index:02}" for index in range(40) for _ in range(40 - index)]
    categories = column_of(inferred(column)).categories
    assert categories == tuple(f"c{index:02}" for index in range(32))


@pytest.mark.parametrize(
    ("target", "kind", "expected"),
    [
        (["b", "a", None] * 20, None, Target("y", "classes", ("a", "b"))),
        ([True, False] * 30, None, Target("y", "classes", ("False", "True"))),
        ([10, 9, 2] * 20, None, Target("y", "classes", ("2", "9", "10"))),
        ([10.0, 9.0] * 30, None, Target("y", "classes", ("9", "10"))),
        ([1.5, 2.5] * 30, None, Target("y", "numbers")),
        ([1.5, 2.5] * 30, "classes", Target("y", "classes", ("1.5", "2.5"))),
        ([10, 9, 2] * 20, "numbers", Target("y", "numbers")),
        ([row // 3 for row in range(60)], None, Target("y", "classes", tuple(map(str, range(20))))),
        ([row // 3 for row in range(63)], None, Target("y", "numbers")),
    ],
)
def test_the_kind_of_the_target_is_inferred(target, kind, expected):
    is_train = ~pd.Series(target).isna().to_numpy()
    assert inferred([1.5, 2.5, 3.5] * (len(target) // 3), target, kind, is_train).target == expected


@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        (["a"] * ROWS, None, r"'y' must have two classes or more, but has 1 in training"),
        (["a"] * 58 + ["b"] * 2, None, r"'y' must have 3 rows for training or more, but 'b' has 2. Give more rows"),
        ([1] * 58 + [2] * 2, None, r"but '2' has 2. Predict numbers, `kind='numbers'`"),
        (["1", "2", "x"] * 20, "numbers", r"Column 'y' must hold a number in every row, but row 3 holds 'x'"),
        ([2.5] * ROWS, "numbers", r"'y' must vary, but is the same"),
        ([1.5] * 59 + [np.inf], None, r"Column 'y' must hold a finite number, .*, but row 60 holds 'inf'"),
        (["2020-01-01", "2020-01-02"] * 30, None, r"'y' must hold classes or numbers, but holds dates"),
        ([1.5, 2] * 30, "number", r"`kind` must be 'classes' or 'numbers', but received 'number'"),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused_in_one_line(target, kind, message):
    with pytest.raises(ValueError, match=message) as raised:
        inferred([1.5, 2.5] * 30, target, kind)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [np.inf, -np.inf, 1e19])
def test_an_infinite_number_is_refused_with_its_row(number):
    with pytest.raises(ValueError, match=r"Column 'x' must hold a finite number, .*, but row 43 holds"):
        inferred([*range(42), number, 1.5, *range(16)])


def test_a_table_without_inputs_is_refused_with_the_reasons():
    frame = pd.DataFrame({"x": [1] * ROWS, "y": ["a", "b"] * 30})
    with pytest.raises(ValueError, match=r"beside the target 'y' .* has none \('x': constant: always '1'\)"):
        infer_schema(parse_frame(frame), np.ones(ROWS, dtype=bool), "y")


def test_only_rows_for_training_have_a_part_in_the_schema():
    frame = mixed_frame().dropna(subset="label", ignore_index=True)
    is_train = np.arange(len(frame)) % 2 == 0
    schema = infer_schema(parse_frame(frame), is_train, "label")
    others = {"age": 1e6, "price": -5.0, "color": "pink", "code": "u", "paid": None, "version": 2, "label": "z"}
    for name, value in others.items():
        changed = frame.astype({name: object})
        changed.loc[~is_train, name] = value
        assert infer_schema(parse_frame(changed), is_train, "label") == schema
        changed.loc[is_train & (np.arange(len(frame)) < 100), name] = value
        assert infer_schema(parse_frame(changed), is_train, "label") != schema


SCHEMA = TableSchema(
    Target("label", "classes", ("a", "b")),
    (
        NumberColumn("age", 0.0, 40.0, True),
        NumberColumn("price", 1e6, 1e6 + 1, False),
        CategoryColumn("color", ("blue", "red"), True),
        NumberColumn("when", 18262.0, 18262.0, False, is_date=True),
    ),
    (DroppedColumn("version", "constant: always '1'"),),
)
FRAME = pd.DataFrame(
    {
        "other": ["x", "y", "z"],
        "when": ["2020-01-01", "2020-01-02", "2020-01-03 12:00"],
        "color": ["red", None, "pink"],
        "age": [1.5, None, 3.0],
        "price": ["1000000.125", "1000001", "1e6"],
    }
)


def test_columns_are_encoded_by_name_in_the_order_of_the_schema():
    assert SCHEMA.encode(FRAME).tolist() == [
        [1.5, 0, 0.125, 0, 1, 0, 0],
        [40.0, 1, 1, 0, 0, 1, 1],
        [3.0, 0, 0, 0, 0, 0, 2.5],
    ]
    assert SCHEMA.encode(FRAME.iloc[:0]).shape == (0, SCHEMA.in_features)


def test_the_layout_names_every_input():
    assert SCHEMA.in_features == 7
    assert describe_layout(SCHEMA.layout()) == (
        "age 0, age is missing 1 (0 or 1), price 2 (from 1000000), color 3:5 (one-hot: blue, red), "
        "color is missing 5 (0 or 1), when 6 (days from 18262)"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (FRAME.drop(columns=["age", "when"]), r"The table must have a column 'age' and 1 more, but has 'other'"),
        (FRAME.assign(age=[1, "old", 2]), r"Column 'age' must hold a number in every row, but row 2 holds 'old'"),
        (FRAME.assign(age="2020-01-01"), r"Column 'age' must hold a number in every row, but row 1"),
        (FRAME.assign(when=[None, None, 7]), r"Column 'when' must hold a date in every row, but row 3 holds '7'"),
        (FRAME.assign(price=[0, 0, np.inf]), r"Column 'price' must hold a finite number, .*, but row 3 holds 'inf'"),
        (pd.concat([FRAME, FRAME[["age"]]], axis=1), r"The table must have one column 'age', but has 2"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line(changed, message):
    with pytest.raises(ValueError, match=message) as raised:
        SCHEMA.encode(changed)
    assert "\n" not in str(raised.value)


NAMES = st.text(min_size=1, max_size=5)
FLOATS = st.floats(-1e18, 1e18)


@st.composite
def schemas(draw):
    names = draw(st.lists(NAMES, min_size=2, max_size=8, unique=True))
    columns = [
        draw(
            st.builds(NumberColumn, st.just(name), FLOATS, FLOATS, st.booleans(), st.booleans())
            | st.builds(
                CategoryColumn,
                st.just(name),
                st.lists(NAMES, min_size=1, max_size=4, unique=True).map(tuple),
                st.booleans(),
            )
        )
        for name in names[2:]
    ]
    classes = tuple(draw(st.lists(NAMES, min_size=2, max_size=4, unique=True)))
    target = draw(st.sampled_from([Target(names[0], "numbers"), Target(names[0], "classes", classes)]))
    return TableSchema(target, (*columns, NumberColumn(names[1], 0.0, 1.0, False)), ())


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(schemas())
def test_a_schema_survives_json(schema):
    assert TableSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(10**400)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def paths_of(content, path=()):
    """The paths of all values inside JSON."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from paths_of(value, (*path, key))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.data(), JSON)
def test_any_other_json_is_a_schema_or_refused(data, value):
    content = json.loads(json.dumps(SCHEMA.to_dict()))
    path = data.draw(st.sampled_from(list(paths_of(content))))
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    if path:
        parent[path[-1]] = value
    try:
        schema = TableSchema.from_dict(content if path else value)
    except ValueError:
        return
    assert TableSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": ()}, r"1 to 65,536 inputs, but has 0"),
        ({"columns": SCHEMA.columns * 2}, r"must differ, but 'age' is there more than once"),
        ({"columns": (NumberColumn("label", 0.0, 0.0, False),)}, r"must differ, but 'label'"),
        ({"columns": (NumberColumn("x", 0.0, float("nan"), False),)}, r"`fill of x` must be a number"),
        ({"columns": (NumberColumn("x" * 501, 0.0, 0.0, False),)}, r"at most 500 characters"),
        ({"columns": (CategoryColumn("x", (), False),)}, r"'x' must have a category"),
        ({"columns": (CategoryColumn("x", tuple(map(str, range(70_000))), False),)}, r"at most 65,536"),
        ({"target": Target("label", "classes", ("a",))}, r"two classes or more .* received 1"),
        ({"target": Target("label", "numbers", ("a", "b"))}, r"none otherwise, .* received 2"),
        ({"target": Target("label", "other")}, r"`target.kind` must be 'classes' or 'numbers', but received 'other'"),
    ],
)
def test_an_invalid_schema_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SCHEMA, **change)
    with pytest.raises(ValueError, match=message):
        TableSchema.from_dict(json.loads(json.dumps({**SCHEMA.to_dict(), **_plain(change)})))


def _plain(change):
    """Changed fields as `to_dict` has them."""
    from dataclasses import asdict

    return {
        field: asdict(value) if field == "target" else [asdict(column) for column in value]
        for field, value in change.items()
    }
