"""Files of a folder: what is not as it was written, or too large, is one error that names it."""

import pytest
import torch
from safetensors.torch import save_file

from nnit_diffusers.loading.limits import MAX_JSON_BYTES
from nnit_diffusers.loading.local import check_name, check_tensors, find_folder, read_json_object, tensor_headers


@pytest.mark.parametrize("name", ["no such folder", "a/b/c", "../x/y"])
def test_what_is_no_folder_and_no_name_of_a_repository_is_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' is neither a folder nor the name of a Hub repository"):
        find_folder(name, ["*.json"])


def test_a_repository_that_cannot_be_reached_is_an_error_that_names_it(tmp_path):
    with pytest.raises(OSError, match="'someone/digits' is neither a folder nor cached"):
        find_folder("someone/digits", ["*.json"], cache_dir=tmp_path)


def test_json_larger_than_the_limit_is_not_read(tmp_path):
    path = tmp_path / "search.json"
    with path.open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(ValueError, match=r"search.json' must have at most 16,777,216 bytes, but has 16,777,217"):
        read_json_object(path)


@pytest.mark.parametrize(("content", "message"), [("[1]", "a JSON object, but holds a list"), ("{", "not JSON")])
def test_json_that_is_no_object_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=f"config.json.*{message}"):
        read_json_object(tmp_path / "config.json")


def test_headers_have_shapes_and_types_of_several_files_together(tmp_path):
    save_file({"a": torch.zeros(2, 3)}, tmp_path / "a.safetensors")
    save_file({"b": torch.zeros((), dtype=torch.bfloat16)}, tmp_path / "b.safetensors")
    assert tensor_headers(tmp_path / "a.safetensors") == {"a": ((2, 3), "F32")}
    assert tensor_headers(tmp_path / "b.safetensors") == {"b": ((), "BF16")}
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    check_tensors(paths, {"a": (2, 3), "b": ()})
    with pytest.raises(ValueError, match="lacks `c` and holds nothing besides"):
        check_tensors(paths, {"a": (2, 3), "b": (), "c": (1,)})


@pytest.mark.parametrize("name", ["", ".", "..", "../secret", "/etc", "a/b", "a\\b", "a\0", None, 3, ["a"]])
def test_a_listed_name_is_that_of_a_folder_beside_the_list(name):
    with pytest.raises(ValueError, match="networks.json must name folders beside it, but names"):
        check_name("networks.json", name)
    assert check_name("networks.json", "network-0") == "network-0"
