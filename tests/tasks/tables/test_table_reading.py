import gzip
import re

import datasets
import pandas as pd
import pytest
from mixed_table import mixed_frame, write_csv

from nnit_diffusers.tasks.tables import read_table, reading
from nnit_diffusers.tasks.tables.cells import parse_frame
from nnit_diffusers.tasks.tables.reading import check_columns


@pytest.fixture(scope="module", autouse=True)
def quiet():
    datasets.disable_progress_bars()


def cells_of(path):
    """Every cell of a table, by column, as text."""
    return {name: cells.labels().tolist() for name, cells in parse_frame(read_table(path).frame).items()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("semicolons.csv", {"sep": ";"}),
        ("decimal commas.csv", {"sep": ";", "decimal": ","}),
        ("tabs.tsv", {"sep": "\t"}),
        ("packed.csv.gz", {}),
        ("mark.csv", {"encoding": "utf-8-sig"}),
    ],
)
def test_text_files_of_all_kinds_have_the_cells_of_a_plain_one(tmp_path, name, options):
    frame = mixed_frame()
    path = write_csv(tmp_path, frame, name, **options)
    assert cells_of(path) == cells_of(write_csv(tmp_path, frame))


def test_parquet_files_and_saved_data_sets_have_the_cells_of_a_csv_file(tmp_path):
    frame = mixed_frame()
    expected = cells_of(write_csv(tmp_path, frame))
    frame.to_parquet(tmp_path / "table.parquet")
    frame.astype({"color": "category"}).set_index("code").to_parquet(tmp_path / "indexed.parquet")
    datasets.Dataset.from_pandas(frame).save_to_disk(tmp_path / "saved")
    assert cells_of(tmp_path / "table.parquet") == expected
    assert cells_of(tmp_path / "indexed.parquet") == expected
    assert cells_of(tmp_path / "saved") == expected


def test_columns_without_a_name_are_left_out(tmp_path):
    frame = mixed_frame().iloc[::-1]
    frame.to_csv(tmp_path / "index.csv")
    frame.to_parquet(tmp_path / "index.parquet")
    assert list(read_table(tmp_path / "index.csv").frame) == list(frame)
    assert list(read_table(tmp_path / "index.parquet").frame) == list(frame)


def test_quoted_delimiters_and_line_breaks_belong_to_cells(tmp_path):
    (tmp_path / "quoted.csv").write_text('"a, b; c";d\n"1\n2;3";4\n')
    assert read_table(tmp_path / "quoted.csv").frame.to_dict("list") == {"a, b; c": ["1\n2;3"], "d": ["4"]}


def test_a_data_set_with_splits_keeps_them_and_the_names_of_its_classes(tmp_path):
    features = datasets.Features({"x": datasets.Value("float32"), "y": datasets.ClassLabel(names=["no", "yes"])})
    splits = {"train": 30, "valid": 10}
    saved = {
        name: datasets.Dataset.from_dict({"x": range(size), "y": [0, 1] * (size // 2)}, features=features)
        for name, size in splits.items()
    }
    datasets.DatasetDict(saved).save_to_disk(tmp_path / "saved")
    table = read_table(tmp_path / "saved")
    assert table.split.tolist() == ["train"] * 30 + ["validation"] * 10
    assert table.frame["y"].tolist() == ["no", "yes"] * 20
    one = read_table(tmp_path / "saved", data_split="validation")
    assert one.split is None
    assert len(one.frame) == 10
    with pytest.raises(ValueError, match=r"`data_split` must be one of \['train', 'validation'\], .* 'test'"):
        read_table(tmp_path / "saved", data_split="test")


def test_a_data_set_with_unknown_splits_is_refused(tmp_path):
    rows = datasets.Dataset.from_dict({"x": [1.0]})
    datasets.DatasetDict({"train": rows, "extra": rows}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"must have the splits .*, but has \['extra', 'train'\]"):
        read_table(tmp_path / "saved")


def test_the_format_of_a_data_set_does_not_matter(tmp_path):
    datasets.Dataset.from_dict({"x": range(9)}).select([7, 2]).with_format("torch").save_to_disk(tmp_path / "saved")
    assert read_table(tmp_path / "saved").frame["x"].tolist() == [7, 2]


def truncated_parquet(path):
    mixed_frame().to_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])


def truncated_gzip(path):
    path.write_bytes(gzip.compress(b"a,b\n1,2\n" * 10**4)[:-30])


def foreign_folder(path):
    path.mkdir()
    (path / "state.json").write_text("{}")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("missing.csv", None, r"There is no table '.*missing.csv'"),
        ("empty.csv", lambda path: path.touch(), r"'.*empty.csv' is empty"),
        ("table.xlsx", lambda path: path.write_text("x"), r"must be a file of .csv, .* received '.*table.xlsx'"),
        ("table.csv", lambda path: path.write_text("a,b,a\n1,2,3\n"), r"different names, but has 'a' more than once"),
        ("table.csv", lambda path: path.write_text("a,b\n1,2\n3\n"), r"truncated or no table: .*Expected 2 columns"),
        ("table.csv", lambda path: path.write_bytes("a,b\n1,é\n".encode("latin-1")), r"must be UTF-8 text"),
        ("table.csv", lambda path: path.write_bytes("é,b\n1,2\n".encode("latin-1")), r"must be UTF-8 text"),
        ("table.csv", lambda path: path.write_bytes("a,b\n1,2\n".encode("utf-16")), r"must be UTF-8 text"),
        ("table.csv.gz", truncated_gzip, r"'.*table.csv.gz' is truncated or no table"),
        ("table.csv.gz", lambda path: path.write_text("a,b\n1,2\n"), r"'.*table.csv.gz' is truncated or no table"),
        ("table.parquet", truncated_parquet, r"'.*table.parquet' is truncated or no table"),
        ("folder", foreign_folder, r"'.*folder' must be a folder that `save_to_disk` of datasets wrote"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, name, write, message):
    if write is not None:
        write(tmp_path / name)
    with pytest.raises((ValueError, OSError), match=message) as raised:
        read_table(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet", "saved"])
def test_a_table_that_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch, name):
    frame = pd.DataFrame({"x": [0.5] * 10**5})
    frame.to_csv(tmp_path / "table.csv", index=False)
    frame.to_csv(tmp_path / "table.csv.gz", index=False)
    frame.to_parquet(tmp_path / "table.parquet", compression=None, use_dictionary=False)
    datasets.Dataset.from_pandas(frame).save_to_disk(tmp_path / "saved")
    assert (tmp_path / "table.csv.gz").stat().st_size < 10**5
    monkeypatch.setattr(reading, "MAX_TABLE_BYTES", 10**5)
    with pytest.raises(ValueError, match=r"The bytes of '.*' may be 100,000 at most"):
        read_table(tmp_path / name)
    monkeypatch.undo()
    monkeypatch.setattr(reading, "MAX_TABLE_CELLS", 10**4)
    with pytest.raises(ValueError, match=r"The cells of '.*' may be 10,000 at most, but would be 100,000"):
        read_table(tmp_path / name)


def test_a_missing_column_is_refused_with_the_nearest_name():
    frame = pd.DataFrame({"quality": [1], "alcohol": [2]})
    message = r"The table must have a column 'qualty', but has 'quality', 'alcohol'. Is 'quality' meant\?"
    with pytest.raises(ValueError, match=message):
        check_columns(frame, ["alcohol", "qualty"], "The table")


def test_a_long_list_of_columns_is_shortened():
    frame = pd.DataFrame([range(100)], columns=[f"c{index}" for index in range(100)])
    with pytest.raises(ValueError, match=re.escape("'c19' and 80 more.")):
        check_columns(frame, ["target"], "The table")
