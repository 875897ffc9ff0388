"""A stranger with only the README gets there: its blocks run, in an empty folder, with pipelines from a Hub."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub


ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = "https://github.com/nnit-diffusers/nnit-diffusers/"
RAW = "https://raw.githubusercontent.com/nnit-diffusers/nnit-diffusers/"
# What keeps a search to seconds.
FEW = "--num-bands 2 --networks-per-band 2 --num-inference-steps 2 --target 0.5"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def hub():
    with LoopbackHub() as hub:
        for name in ("pickcube", "digits"):
            hub.publish(f"nnit/{name}", ROOT / "nnit" / name)
        yield hub


def test_the_quickstart_runs_outside_a_checkout_and_fits_eight_lines(hub, tmp_path):
    (quickstart,) = blocks("python")
    assert len(quickstart.splitlines()) <= 8
    check = "\nassert action.shape == (1, 8) and action.abs().max() <= 1\nassert len(out.networks) == 4"
    process = subprocess.run(
        [sys.executable, "-c", quickstart + check],
        cwd=tmp_path,
        env=hub.environment(tmp_path / "cache"),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert {path.name for path in (tmp_path / "my-policy").iterdir()} >= {"config.json", "model.safetensors"}
    assert any("GET /nnit/pickcube/resolve" in request for request in hub.requests)


def test_the_commands_lead_to_a_network_a_search_and_an_export(hub, tmp_path):
    (block,) = [block for block in blocks("bash") if "nnit search" in block]
    nnit = str(Path(sys.executable).with_name("nnit"))
    for line in block.splitlines():
        # The same commands for digits, which need no simulator, and with little to search.
        words = shlex.split(line.replace("pickcube", "digits").replace("128 256", "48 40"))
        words = [nnit, *words[1:], *(shlex.split(FEW) if words[1] == "search" else ())]
        process = subprocess.run(
            words, cwd=tmp_path, env=hub.environment(tmp_path / "cache"), capture_output=True, text=True
        )
        assert process.returncode == 0, f"{line}\n{process.stderr}"
    assert (tmp_path / "smallest" / "winner" / "model.safetensors").is_file()
    assert (tmp_path / "policy.onnx").stat().st_size > 1000


def test_it_is_short():
    # without the lines of tables, which are no words
    assert sum(any(map(str.isalnum, word)) for word in README.split()) <= 1100


def test_links_are_absolute_and_those_to_this_project_lead_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert [target for target in targets if not target.startswith("https://")] == []
    ours = [target for target in targets if target.startswith((PAGES, RAW))]
    assert len(ours) > 10
    for target in ours:
        path = re.fullmatch(rf"(?:{RAW}|{PAGES}(?:blob|tree)/)main/(.+)", target)
        assert path is not None and (ROOT / path[1]).exists(), target
