"""What a release ships and promises: metadata, changelog, workflows, hooks."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name
from packaging.version import Version

import nnit_diffusers


ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/nnit-diffusers/nnit-diffusers"
YAML_FILES = sorted([*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml"])
FORMS = [path for path in YAML_FILES if path.parent.name == "ISSUE_TEMPLATE" and path.name != "config.yml"]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
MAKE_TARGETS = set(re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

LEROBOT = ROOT / "scripts/test_lerobot.py"

lowest = runpy.run_path(str(ROOT / "scripts/test_lowest.py"))
sys.path.insert(0, str(ROOT / "scripts"))  # it imports the other
lerobot = runpy.run_path(str(LEROBOT))


def steps_of(workflow):
    return [step for job in yaml.safe_load(workflow.read_text())["jobs"].values() for step in job["steps"]]


def test_the_metadata_leads_to_the_project():
    urls = dict(line.split(", ") for line in metadata.metadata("nnit-diffusers").get_all("Project-URL"))
    assert urls["Source"] == REPOSITORY
    assert {"Documentation", "Changelog", "Issues", "Paper"} <= set(urls)
    for url in urls.values():
        path = re.fullmatch(rf"{REPOSITORY}/(?:blob|tree)/main/(.+)", url)
        assert path is None or (ROOT / path[1]).exists(), url


def test_the_license_is_named_and_shipped():
    of_package = metadata.metadata("nnit-diffusers")
    assert of_package["License-Expression"] == "Apache-2.0"
    assert of_package.get_all("License-File") == ["LICENSE"] and (ROOT / "LICENSE").is_file()


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
    assert content["concurrency"]["cancel-in-progress"] is True
    actions = [step for step in steps_of(workflow) if "uses" in step]
    assert all(re.fullmatch(r"[\w/-]+@v\d+", step["uses"]) for step in actions)
    checkouts = [step for step in actions if "checkout" in step["uses"]]
    assert len(checkouts) == len(content["jobs"])
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_issue_forms_have_what_github_needs(form):
    content = yaml.safe_load(form.read_text())
    assert content["name"] and content["description"]
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert all(field["attributes"]["label"] for field in fields)
    names = [field["id"] for field in fields]
    assert names and len(set(names)) == len(names)


def test_the_lowest_versions_are_those_of_the_metadata_and_not_above_the_pins():
    floors = lowest["floors"]()
    lines = re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    pins = {canonicalize_name(name): version for name, version in lines}
    required = metadata.requires("nnit-diffusers")
    assert {"torch", "diffusers", "scipy", "pyarrow", "onnx", "peft"} <= set(floors)
    for name, floor in floors.items():
        assert Version(floor) <= Version(pins[canonicalize_name(name)]), name
        assert any(re.match(rf"{name}\b.*>={re.escape(floor)}(?![\d.])", line) for line in required), name


def test_the_tests_left_out_on_the_lowest_versions_exist():
    for test in lowest["DESELECTED"]:
        path, name = test.partition("[")[0].split("::")
        functions = {node.name for node in ast.parse((ROOT / path).read_text()).body if hasattr(node, "name")}
        assert name in functions, test
    assert [path for path in lowest["LEFT_OUT"] if not (ROOT / path).exists()] == []


def test_lerobot_is_tested_without_the_motion_planner_and_refuses_an_older_python_in_one_line():
    kept = lerobot["without"](
        ["mplib==0.1.1; platform_system == 'Linux'", "sapien>=3", "ruff; extra == 'dev'"], "mplib"
    )
    assert kept == ["sapien>=3"]
    assert [path for path in lerobot["TESTS"] if not (ROOT / path).exists()] == []
    if sys.version_info < lerobot["OLDEST_PYTHON"]:
        process = subprocess.run([sys.executable, str(LEROBOT)], capture_output=True, text=True)
        assert process.returncode == 2
        assert process.stderr.splitlines()[-1].endswith("`make lerobot PYTHON=python3.12`.")


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


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Names of the files in the sdist and in the wheel that is built from it, outside of the checkout."""
    pytest.importorskip("build", reason="the extra `release` is not installed")
    checkout, built = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("built")
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "demo", "dist", "nnit", "outputs")
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=ignored, dirs_exist_ok=True)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", built, checkout]
    subprocess.run(build, check=True, capture_output=True)
    (sdist,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(sdist) as tar, zipfile.ZipFile(wheel) as archive:
        return {name.partition("/")[2] for name in tar.getnames()}, set(archive.namelist())


def test_the_wheel_holds_all_of_the_package_and_nothing_else(distributions):
    _, wheel = distributions
    files = {str(path.relative_to(ROOT / "src")) for path in ROOT.glob("src/nnit_diffusers/**/*") if path.is_file()}
    package = {name for name in files if "__pycache__" not in name}
    assert {"nnit_diffusers/py.typed", "nnit_diffusers/cards/model_card.md"} <= package
    assert {name for name in wheel if ".dist-info/" not in name} == package


def test_the_sdist_holds_the_package_and_its_documents_but_no_tests_or_scripts(distributions):
    sdist, _ = distributions
    assert {"src/nnit_diffusers/cards/model_card.md", "src/nnit_diffusers/cards/robot.jinja"} <= sdist
    assert {"CHANGELOG.md", "LICENSE", "README.md", "constraints.txt", "docs/results.md", "setup.py"} <= sdist
    folders = {name.partition("/")[0] for name in sdist if "/" in name}
    assert folders == {"docs", "src"}
