"""What a release ships and promises: metadata, changelog, workflows, hooks."""

import re
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import nnit_diffusers


ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/nnit-diffusers/nnit-diffusers"
YAML_FILES = sorted([*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml"])
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
MAKE_TARGETS = set(re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def steps_of(workflow):
    return [step for job in yaml.safe_load(workflow.read_text())["jobs"].values() for step in job["steps"]]


def test_the_metadata_leads_to_the_project():
    urls = dict(line.split(", ") for line in metadata.metadata("nnit-diffusers").get_all("Project-URL"))
    assert urls["Source"] == REPOSITORY
    assert {"Documentation", "Changelog", "Issues", "Paper"} <= set(urls)
    for url in urls.values():
        path = re.fullmatch(rf"{REPOSITORY}/(?:blob|tree)/main/(.+)", url)
        assert path is None or (ROOT / path[1]).exists(), url


def test_the_changelog_has_this_version_with_its_date_and_what_comes_next():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[1] == "[Unreleased]"
    assert any(re.fullmatch(rf"\[{re.escape(nnit_diffusers.__version__)}\] - \d{{4}}-\d\d-\d\d", h) for h in headings)


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_is_valid(path):
    assert yaml.safe_load(path.read_text())


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_what_exists(workflow):
    commands = [step["run"] for step in steps_of(workflow) if "run" in step]
    targets = {target for command in commands for target in re.findall(r"\bmake ([a-z_]+)", command)}
    assert targets and targets <= MAKE_TARGETS
    for path in re.findall(r"\b(?:tests|scripts)/[\w/.]+", " ".join(commands)):
        assert (ROOT / path).exists(), path
    extras = {
        extra for command in commands for group in re.findall(r"\.\[([\w,]+)\]", command) for extra in group.split(",")
    }
    assert extras <= set(metadata.metadata("nnit-diffusers").get_all("Provides-Extra"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_only_read_and_end(workflow):
    content = yaml.safe_load(workflow.read_text())
    assert content["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 for job in content["jobs"].values())


def test_the_hooks_have_the_pinned_version_of_ruff():
    (pinned,) = re.findall(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (revision,) = [repo["rev"] for repo in hooks if repo["repo"].endswith("ruff-pre-commit")]
    assert revision == f"v{pinned}"
    (script,) = [hook["entry"].split()[1] for repo in hooks for hook in repo["hooks"] if hook["id"] == "prose"]
    assert (ROOT / script).is_file()


def test_the_sdist_includes_files_that_exist():
    lines = re.findall(r"^include (.+)$", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE)
    included = [name for line in lines for name in line.split()]
    assert {"CHANGELOG.md", "SECURITY.md"} <= set(included)
    assert [name for name in included if not (ROOT / name).is_file()] == []
