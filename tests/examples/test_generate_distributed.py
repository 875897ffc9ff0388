"""Networks that two processes generate are those of `nnit generate` on one."""

import json
from pathlib import Path

import pytest
import torch
import tyro
from generate_distributed import main
from launching import ONE_PROCESS, TWO_PROCESSES, files_of, fresh_accelerate, launch
from tiny import tiny_pipeline

from nnit_diffusers import MLP
from nnit_diffusers.cli.generate import Generate
from nnit_diffusers.cli.main import run


SCRIPT = str(Path(__file__).parents[2] / "examples" / "generate_distributed.py")
REQUESTS = {
    # an odd number of networks, and two architectures of which one is chosen
    "given": ("--arch", "9", "7", "--arch", "5", "None", "--num-networks", "3"),
    "free": ("--max-parameters", "120", "--num-networks", "3"),
    # fewer than processes
    "one": ("--arch", "6"),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


def options(published, request, output):
    return (str(published), *REQUESTS[request], "--seed", "3", "--num-inference-steps", "2", "--output", str(output))


def listed(folder):
    """The list of networks, without what differs between two commands."""
    found = json.loads((folder / "networks.json").read_text())
    found.pop("provenance")
    return found


@pytest.mark.parametrize(
    ("launcher", "name"), [(TWO_PROCESSES, "given"), (TWO_PROCESSES, "one"), (ONE_PROCESS, "free")]
)
def test_the_networks_and_the_folder_are_those_of_nnit_generate(published, tmp_path, launcher, name):
    here, there = tmp_path / "here", tmp_path / "there"
    assert run(["generate", *options(published, name, here)]) == 0
    # replaces networks of another seed
    assert run(["generate", *options(published, name, there), "--seed", "4"]) == 0
    launch(launcher, SCRIPT, *options(published, name, there), "--force")
    # the same networks, each once, and nothing else
    assert listed(there) == listed(here)
    names = [entry["name"] for entry in listed(here)["networks"]]
    for folder in (here, there):
        assert {path.name for path in folder.iterdir()} == {"networks.json", *names}
    for name in names:
        assert {path.name for path in (there / name).iterdir()} == {path.name for path in (here / name).iterdir()}
        one, other = (MLP.from_pretrained(folder / name).state_dict() for folder in (here, there))
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"here", "there"}


def test_a_folder_is_replaced_only_on_request(published, tmp_path):
    command_line = options(published, "one", tmp_path / "networks")
    assert run(["generate", *command_line]) == 0
    before = files_of(tmp_path)
    with fresh_accelerate(), pytest.raises(ValueError, match=r"`--output` must be a new folder.*add --force"):
        main(tyro.cli(Generate, args=command_line))
    assert files_of(tmp_path) == before
