"""`nnit publish` as a shell starts it: valid folders are uploaded completely, invalid ones not at all."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import TOKEN, LoopbackHub

from nnit_diffusers import NNiTPipeline
from nnit_diffusers.pipelines.fingerprint import fingerprints


NNIT = Path(sys.executable).with_name("nnit")
DIGITS = Path(__file__).parents[2] / "nnit" / "digits"
# A visitor loads it without a token.
LOAD = """
import json
from nnit_diffusers import NNiTPipeline
from nnit_diffusers.pipelines.fingerprint import fingerprints

print(json.dumps(fingerprints(NNiTPipeline.from_pretrained("someone/digits"))))
"""


def publish(hub, folder, cache, *options, token=TOKEN):
    environment = hub.environment(cache) | ({"HF_TOKEN": token} if token else {})
    command = [str(NNIT), "publish", str(folder), "--repo-id", "someone/digits", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def files_on(hub):
    """The files of the repository on the Hub."""
    repository = hub.repositories.get(("model", "someone/digits"))
    return {} if repository is None else repository.revisions["main"]


@pytest.fixture
def hub():
    with LoopbackHub() as hub:
        yield hub


def test_a_published_folder_is_complete_and_loads_elsewhere_with_the_same_weights(hub, tmp_path):
    published = publish(hub, DIGITS, tmp_path / "publisher", "--json")
    assert published.returncode == 0, published.stderr
    report = json.loads(published.stdout)
    commit = hub.repositories["model", "someone/digits"].commit_of("main")
    assert report["commit_url"] == f"{hub.endpoint}/someone/digits/commit/{commit}"
    assert [check["problem"] for check in report["checks"]] == [None] * 7
    here = {path.relative_to(DIGITS).as_posix(): path.read_bytes() for path in DIGITS.rglob("*") if path.is_file()}
    assert files_on(hub) == here
    assert hub.run(LOAD, tmp_path / "visitor") == fingerprints(NNiTPipeline.from_pretrained(DIGITS))


def test_a_changed_result_and_a_missing_component_are_reported_and_nothing_is_uploaded(hub, tmp_path):
    digits = shutil.copytree(DIGITS, tmp_path / "digits")
    card = digits / "README.md"
    changed = (
        card.read_text()
        .replace("value: 0.9891", "value: 0.9991")
        .replace("98.9% (98.6 to 99.3)", "99.9% (98.6 to 99.3)")
    )
    assert changed != card.read_text()
    card.write_text(changed)
    shutil.rmtree(digits / "tokenizer")
    refused = publish(hub, digits, tmp_path / "publisher")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "The metadata of README.md must have the results {'seen': 0.9891," in refused.stdout
    assert "but shows ['99.9% (98.6 to 99.3)']" in refused.stdout
    assert "lacks its tokenizer" in refused.stdout
    assert refused.stdout.splitlines()[-1] == "Not uploaded to someone/digits."
    assert (hub.requests, hub.repositories) == ([], {})


def test_a_missing_token_is_a_one_line_error_before_any_check(hub, tmp_path):
    refused = publish(hub, DIGITS, tmp_path / "publisher", token=None)
    (line,) = refused.stderr.splitlines()
    assert (refused.returncode, refused.stdout) == (2, "")
    assert line.startswith("nnit publish: error: ") and "hf auth login" in line
    assert hub.requests == []


def test_a_hub_that_fails_during_the_commit_keeps_the_old_version_unchanged(hub, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "README.md").write_text("the old version")
    hub.publish("someone/digits", tmp_path / "old")
    hub.goes_down_at = "/commit/"
    failed = publish(hub, DIGITS, tmp_path / "publisher")
    assert (failed.returncode, failed.stdout) == (2, "")
    line = failed.stderr.splitlines()[-1]
    assert line.startswith("nnit publish: error: The upload to someone/digits was not completed")
    assert "Traceback" not in failed.stderr
    assert (DIGITS / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes() in hub.objects.values()
    assert files_on(hub) == {"README.md": b"the old version"}
