"""`nnit publish`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from ..loading.local import read_json_object
from .command import Command, OptionalStr, Report
from .sources import PIPELINE_NAME


if TYPE_CHECKING:
    from ..pipelines import NNiTPipeline


# what a pipeline's repository may hold: anything else is a mistake, or code that would run where it is loaded
SUFFIXES = {".json", ".safetensors", ".md", ".png", ".svg", ".gif", ".mp4", ".gitattributes"}
PIPELINE_FILE = "pipeline.py"
# a mean and its interval, as in a model card
RESULT = re.compile(r"\d+\.\d% \(\d+\.\d to \d+\.\d\)")


@dataclass(kw_only=True)
class Publish(Command):
    """Check the folder of a pipeline, then upload it to the Hugging Face Hub.

    For example:

        # only the checks
        nnit publish nnit/digits --dry-run

        # upload to the repository nnit/digits
        nnit publish nnit/digits

        # upload to another repository
        nnit publish outputs/repo --repo-id me/digits --private

    The checks load the pipeline and generate networks. They compare the results in the model card with
    evaluation.json, and the weights and the sampler with those that were evaluated. If a check fails, nothing is
    uploaded and the exit code is 1.
    """

    after_interrupt = "The upload may be complete: check the repository's page on the Hub."

    folder: Annotated[Positional[str], arg(metavar="FOLDER")]
    """Folder of a pipeline, with its model card and evaluation.json."""
    repo_id: OptionalStr = None
    """Hub repository to upload to, such as me/digits. Default: the last two parts of the folder's path."""
    private: bool = False
    """Make the repository private if it is new."""
    dry_run: bool = False
    """Run the checks and upload nothing."""

    def run(self) -> Report:
        folder = Path(self.folder)
        if not (folder / PIPELINE_NAME).is_file():
            raise ValueError(f"`FOLDER` must be a folder with a {PIPELINE_NAME}, but received {self.folder!r}.")
        repo_id = self.repo_id or "/".join(folder.resolve().parts[-2:])

        # check, then upload if all is well
        if not self.dry_run:
            check_token()
        checks = check_folder(folder)
        failed = any(check.problem for check in checks)
        commit_url = None if failed or self.dry_run else upload(folder, repo_id, self.private)

        # a line per check, then the problems and what was uploaded
        lines = [f"{'failed' if check.problem else 'ok':<7}{check.name}" for check in checks]
        lines += [f"       {check.name}: {check.problem}" for check in checks if check.problem]
        if failed:
            lines.append(f"Not uploaded to {repo_id}.")
        elif commit_url is None:
            lines.append(f"Ready for {repo_id}; nothing was uploaded.")
        else:
            lines.append(f"Uploaded: {commit_url}")
        payload = {
            "folder": str(folder),
            "repo_id": repo_id,
            "checks": [{"name": check.name, "problem": check.problem} for check in checks],
            "commit_url": commit_url,
        }
        return Report(payload, "\n".join(lines), failed)


def check_token() -> None:
    """Raises `ValueError` if there is no Hub token, before the checks take their time."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise ValueError(
            "An upload needs a Hub token with write access: log in with `hf auth login`, or set HF_TOKEN. "
            "--dry-run runs the checks without a token."
        )


def upload(folder: Path, repo_id: str, private: bool) -> str:
    """Uploads all files of the folder in one atomic commit.

    Returns:
        `str`: The URL of the commit.

    Raises:
        `OSError`: If the upload was not completed; the repository is then unchanged.
    """
    from huggingface_hub import create_repo, upload_folder

    # the base error of the HTTP client that huggingface_hub uses
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    from ..cards.folder import WORK_FOLDER

    repo_id = create_repo(repo_id, private=private, exist_ok=True).repo_id
    try:
        return upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message="Upload with nnit publish",
            ignore_patterns=[".*", f"{WORK_FOLDER}/*"],
        ).commit_url
    except (HTTPError, OSError) as error:
        raise OSError(
            f"The upload to {repo_id} was not completed, and no file of the repository was changed. Run the same "
            f"command to try again. {error}"
        ) from error


@dataclass
class Check:
    """One check of a folder.

    Parameters:
        name (`str`): What the check verifies.
        problem (`str`, *optional*): Why it failed; `None` if it passed.
    """

    name: str
    problem: OptionalStr = None


@dataclass
class _Checks:
    done: list[Check] = field(default_factory=list)

    @contextmanager
    def that(self, name: str) -> Iterator[None]:
        """Records a check, which fails if the block raises an error."""
        check = Check(name)
        self.done.append(check)
        try:
            yield
        except Exception as error:
            check.problem = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"nnit publish: {name}: failed", file=sys.stderr)


def check_folder(folder: Path) -> list[Check]:
    """Runs all checks of the folder of a pipeline, in order."""
    checks = _Checks()
    # files, and the pipeline that they hold
    pipe: NNiTPipeline | None = None
    with checks.that("the folder holds only files of a pipeline, and no code"):
        check_files(folder)
    with checks.that("the pipeline loads"):
        from ..pipelines import NNiTPipeline

        pipe = NNiTPipeline.from_pretrained(folder)
    if pipe is not None:
        with checks.that("generated networks have the requested architecture and finite weights"):
            check_generation(pipe)
    # model card and evaluation
    with checks.that("the card has the metadata that the Hub reads"):
        check_card(folder)
    with checks.that("the card's metadata has the results of evaluation.json"):
        check_results(folder)
    with checks.that("the card's tables have the results of the JSON files"):
        check_tables(folder)
    if pipe is not None:
        with checks.that("evaluation.json was measured with these weights and this sampler"):
            check_fingerprints(folder, pipe)
    return checks.done


def check_files(folder: Path) -> None:
    """Raises `ValueError` if the folder holds a link, a file of an unknown kind, or code other than one import."""
    from ..cards.folder import WORK_FOLDER

    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] == WORK_FOLDER:  # checkpoints of `nnit train`, which are not uploaded
            continue
        if path.is_symlink():
            raise ValueError(f"{name} must be a file, but is a link.")
        if path.is_file() and name != PIPELINE_FILE and (path.suffix or path.name) not in SUFFIXES:
            raise ValueError(f"{name} must be one of {sorted(SUFFIXES)} or {PIPELINE_FILE}.")
    if (folder / PIPELINE_FILE).exists():
        lines = (folder / PIPELINE_FILE).read_text(encoding="utf-8").splitlines()
        code = [line.partition("#")[0].strip() for line in lines]
        if [line for line in code if line] != ["from nnit_diffusers import NNiTPipeline"]:
            raise ValueError(f"{PIPELINE_FILE} must be `from nnit_diffusers import NNiTPipeline` and nothing else.")


def check_generation(pipe: NNiTPipeline) -> None:
    """Raises `ValueError` if generated networks do not have the requested shape, or weights that are not finite."""
    import torch

    pipe.set_progress_bar_config(disable=True)
    width = pipe.transformer.config.max_width
    generator = torch.Generator().manual_seed(0)
    for arch in ([width], [width, width], None):
        output: Any = pipe(arch, num_inference_steps=4, generator=generator)
        (network,) = output.networks
        if arch is not None and list(network.architecture.hidden_sizes) != arch:
            raise ValueError(
                f"The generated network must have hidden sizes {arch}, but has {network.architecture.hidden_sizes}."
            )
        if not all(parameter.isfinite().all() for parameter in network.parameters()):
            raise ValueError(
                f"A network of {list(network.architecture.hidden_sizes)} has weights that are not finite."
            )


def check_card(folder: Path) -> None:
    """Raises `ValueError` if the card lacks metadata by which the Hub lists it: library, license, results."""
    data = _card(folder).data
    wanted = {"library_name": "nnit-diffusers"}
    for name, value in wanted.items():
        if getattr(data, name) != value:
            raise ValueError(f"`{name}` of README.md must be {value!r}, but is {getattr(data, name)!r}.")
    if not data.license:
        raise ValueError("`license` of README.md must be given, but is not.")
    if not data.eval_results:
        raise ValueError("README.md must have a `model-index` with the results of the evaluation, but has none.")


def check_results(folder: Path) -> None:
    """Raises `ValueError` if the results in the card's metadata differ from those of evaluation.json."""
    report = read_json_object(folder / "evaluation.json")
    if not report.get("regions"):
        raise ValueError("evaluation.json must have the section `regions`, but lacks it.")
    measured = {region: round(part["nnit"]["mean"], 4) for region, part in report["regions"].items()}
    claimed = {result.dataset_config: result.metric_value for result in _card(folder).data.eval_results or []}
    if claimed != measured:
        raise ValueError(f"The metadata of README.md must have the results {measured}, but has {claimed}.")


def check_tables(folder: Path) -> None:
    """Raises `ValueError` if a result in the card is in no JSON file beside it, or the result of a region is missing.

    A result is a mean with its interval, as in "97.6% (96.9 to 98.2)".
    """
    # every result shown was measured
    shown = set(RESULT.findall(_card(folder).text))
    measured = {result for path in folder.glob("*.json") for result in _results(read_json_object(path))}
    if shown - measured:
        raise ValueError(
            f"README.md must show results of the JSON files beside it, but shows {sorted(shown - measured)}."
        )

    # every region is shown
    for region, part in read_json_object(folder / "evaluation.json").get("regions", {}).items():
        for wanted in _results(part["nnit"]):
            if wanted not in shown:
                raise ValueError(f"README.md must show {wanted} for region {region!r}, but does not.")


def check_fingerprints(folder: Path, pipe: NNiTPipeline) -> None:
    """Raises `ValueError` if evaluation.json was measured with other weights or another sampler, or lacks a hash."""
    from ..pipelines.fingerprint import fingerprints

    evaluated = read_json_object(folder / "evaluation.json")["settings"]
    for name, wanted in fingerprints(pipe).items():
        if name not in evaluated:
            raise ValueError(f"evaluation.json must record `{name}` in its settings, but lacks it.")
        if evaluated[name] != wanted:
            raise ValueError(
                f"`{name}` of evaluation.json must be {wanted[:12]}…, as of the pipeline, but is "
                f"{str(evaluated[name])[:12]}…."
            )


def _results(measured: Any) -> Iterator[str]:
    """Every mean with an interval in the content of a JSON file, written as in a card."""
    if isinstance(measured, dict) and {"mean", "interval"} <= measured.keys():
        low, high = measured["interval"]
        yield f"{100 * measured['mean']:.1f}% ({100 * low:.1f} to {100 * high:.1f})"
    if isinstance(measured, (dict, list)):
        for value in measured.values() if isinstance(measured, dict) else measured:
            yield from _results(value)


def _card(folder: Path) -> Any:
    from huggingface_hub import ModelCard

    return ModelCard.load(folder / "README.md")
