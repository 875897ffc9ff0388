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

from .command import Command, OptionalStr, Report
from .sources import PIPELINE_NAME, read_json


if TYPE_CHECKING:
    from ..pipelines import NNiTPipeline


# What a repository of a pipeline holds. Anything else is a mistake, or could run on the machine of whoever loads it.
SUFFIXES = {".json", ".safetensors", ".md", ".png", ".svg", ".gif", ".mp4", ".gitattributes"}
PIPELINE_FILE = "pipeline.py"
# A mean and its interval, as a card shows them.
FIGURE = re.compile(r"\d+\.\d% \(\d+\.\d to \d+\.\d\)")


@dataclass(kw_only=True)
class Publish(Command):
    """Check the folder of a pipeline, then upload it to the Hub.

    For example, the checks alone, an upload to the repository of that name, and one to another:

        nnit publish nnit/digits --dry-run
        nnit publish nnit/digits
        nnit publish outputs/repo --repo-id me/digits --private

    It loads the folder, generates with it, and compares what the card says with the evaluation, and that with the
    weights. If a check fails, nothing is uploaded, and the exit code is 1.
    """

    after_interrupt = "Whether the upload was complete, the Hub's page says."

    folder: Annotated[Positional[str], arg(metavar="FOLDER")]
    """Folder of a pipeline, as examples/build_hub_repo.py makes it."""
    repo_id: OptionalStr = None
    """Repository to upload to; the last two parts of the folder's path by default."""
    private: bool = False
    """Make the repository a private one, if it is new."""
    dry_run: bool = False
    """Check, and upload nothing."""

    def run(self) -> Report:
        folder = Path(self.folder)
        if not (folder / PIPELINE_NAME).is_file():
            raise ValueError(f"`FOLDER` must be a folder with a {PIPELINE_NAME}, but received {self.folder!r}.")
        repo_id = self.repo_id or "/".join(folder.resolve().parts[-2:])
        if not self.dry_run:
            check_token()
        checks = check_folder(folder)
        failed = any(check.problem for check in checks)
        commit_url = None if failed or self.dry_run else upload(folder, repo_id, self.private)

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
    """Raises `ValueError` if there is no token to upload with, which the Hub would say after all the checks."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise ValueError(
            "An upload needs a token of the Hub that may write: log in with `hf auth login`, or set HF_TOKEN. With "
            "--dry-run the folder is checked without one."
        )


def upload(folder: Path, repo_id: str, private: bool) -> str:
    """Uploads all files of the folder in one commit, which the Hub takes whole or not at all.

    Returns:
        `str`: The address of the commit.

    Raises:
        `OSError`: If the upload did not come to its end.
    """
    from huggingface_hub import create_repo, upload_folder

    # What its HTTP client raises, whichever that is.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    repo_id = create_repo(repo_id, private=private, exist_ok=True).repo_id
    try:
        return upload_folder(
            repo_id=repo_id, folder_path=folder, commit_message="Upload with nnit publish", ignore_patterns=[".*"]
        ).commit_url
    except (HTTPError, OSError) as error:
        raise OSError(
            f"The upload to {repo_id} did not come to its end, and the Hub takes it whole or not at all. The same "
            f"command tries again. ({error})"
        ) from error


@dataclass
class Check:
    """One check of a folder.

    Parameters:
        name (`str`): What holds if it succeeds.
        problem (`str`, *optional*): What does not.
    """

    name: str
    problem: OptionalStr = None


@dataclass
class _Checks:
    done: list[Check] = field(default_factory=list)

    @contextmanager
    def that(self, name: str) -> Iterator[None]:
        """A check that holds unless its block raises what a folder can be the cause of."""
        check = Check(name)
        self.done.append(check)
        try:
            yield
        except Exception as error:
            check.problem = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"nnit publish: {name}: failed", file=sys.stderr)


def check_folder(folder: Path) -> list[Check]:
    """All checks of the folder of a pipeline, in order."""
    checks = _Checks()
    pipe: NNiTPipeline | None = None
    with checks.that("it holds the files of a pipeline, and nothing that could run code"):
        check_files(folder)
    with checks.that("it loads"):
        from ..pipelines import NNiTPipeline

        pipe = NNiTPipeline.from_pretrained(folder)
    if pipe is not None:
        with checks.that("it generates networks of finite weights, given and chosen architectures alike"):
            check_generation(pipe)
    with checks.that("the card has the metadata that the Hub reads"):
        check_card(folder)
    with checks.that("the card's metadata has the results of evaluation.json"):
        check_results(folder)
    with checks.that("the card's tables show what was measured"):
        check_tables(folder)
    if pipe is not None:
        with checks.that("evaluation.json is of these weights"):
            check_weights(folder, pipe)
    return checks.done


def check_files(folder: Path) -> None:
    """Raises `ValueError` on a file that has no place in the repository of a pipeline."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
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
    """Raises `ValueError` if the pipeline generates networks that have another shape or are not finite."""
    import torch

    pipe.set_progress_bar_config(disable=True)
    width = pipe.transformer.config.max_width
    generator = torch.Generator().manual_seed(0)
    for arch in ([width], [width, width], None):
        output: Any = pipe(arch, num_inference_steps=4, generator=generator)
        (network,) = output.networks
        if arch is not None and list(network.architecture.hidden_sizes) != arch:
            raise ValueError(f"A network of {arch} was asked for, and {network.architecture.hidden_sizes} came.")
        if not all(parameter.isfinite().all() for parameter in network.parameters()):
            raise ValueError(
                f"A network of {list(network.architecture.hidden_sizes)} has weights that are not finite."
            )


def check_card(folder: Path) -> None:
    """Raises `ValueError` if the card lacks metadata without which the Hub cannot tell what it is."""
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
    """Raises `ValueError` if a result in the card's metadata is not the one that was measured, or is missing."""
    report = read_json(folder / "evaluation.json")
    measured = {region: round(part["nnit"]["mean"], 4) for region, part in report["regions"].items()}
    claimed = {result.dataset_config: result.metric_value for result in _card(folder).data.eval_results or []}
    if claimed != measured:
        raise ValueError(f"README.md must say {measured}, as evaluation.json does, but says {claimed}.")


def check_tables(folder: Path) -> None:
    """Raises `ValueError` if the card shows a figure that was not measured, or leaves out that of a region.

    A figure is a mean with its interval, as in "97.6% (96.9 to 98.2)"; measured is what a JSON file beside the card
    holds.
    """
    shown = set(FIGURE.findall(_card(folder).text))
    measured = {figure for path in folder.glob("*.json") for figure in _figures(read_json(path))}
    if shown - measured:
        raise ValueError(
            f"README.md must show figures of the JSON files beside it, but shows {sorted(shown - measured)}."
        )
    for region, part in read_json(folder / "evaluation.json").get("regions", {}).items():
        for wanted in _figures(part["nnit"]):
            if wanted not in shown:
                raise ValueError(f"README.md must show {wanted} for region {region!r}, but does not.")


def check_weights(folder: Path, pipe: NNiTPipeline) -> None:
    """Raises `ValueError` if other weights were evaluated."""
    from ..pipelines.fingerprint import fingerprint

    evaluated = read_json(folder / "evaluation.json")["settings"]["weights_sha256"]
    if evaluated != fingerprint(pipe):
        raise ValueError(
            f"evaluation.json must be of these weights, {fingerprint(pipe)[:12]}, but is of {evaluated[:12]}."
        )


def _figures(measured: Any) -> Iterator[str]:
    """Every mean that has an interval, anywhere in what a JSON file holds, as a card shows it."""
    if isinstance(measured, dict) and {"mean", "interval"} <= measured.keys():
        low, high = measured["interval"]
        yield f"{100 * measured['mean']:.1f}% ({100 * low:.1f} to {100 * high:.1f})"
    if isinstance(measured, (dict, list)):
        for value in measured.values() if isinstance(measured, dict) else measured:
            yield from _figures(value)


def _card(folder: Path) -> Any:
    from huggingface_hub import ModelCard

    return ModelCard.load(folder / "README.md")
