"""The command `nnit`, from its arguments to its exit code.

`--help` has to be fast, so no module of this package imports torch before a command runs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from types import FrameType
from typing import Annotated, Any, Union

import tyro
from tyro.conf import FlagCreatePairsOff, subcommand

from .. import __version__
from .command import Command
from .evaluate import Evaluate
from .export import Export
from .generate import Generate
from .info import Info
from .predict import Predict
from .publish import Publish
from .search import Search
from .train import Train


OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

COMMANDS: dict[str, tuple[type[Command], str]] = {
    "train": (Train, "Train a pipeline for a table, a simulator, or a task of your own."),
    "generate": (Generate, "Generate networks of any width and depth, and save them."),
    "evaluate": (Evaluate, "Score saved or newly generated networks on a task."),
    "search": (Search, "Find the smallest network that reaches a score."),
    "predict": (Predict, "Predict the target of a table with networks that were generated for it."),
    "export": (Export, "Convert a network for other programs: ONNX, torch.export, PPO checkpoints, LeRobot."),
    "info": (Info, "Show what a pipeline or a network is, and its measured results."),
    "publish": (Publish, "Check the folder of a pipeline, then upload it to the Hugging Face Hub."),
}

DESCRIPTION = """Generate ready-to-use MLPs of any width and depth with one diffusion model.

    nnit info nnit/digits
    nnit generate nnit/digits --arch 48 40 --output networks
    nnit evaluate networks
    nnit export networks --format onnx --output digits.onnx
    nnit search nnit/digits --target 0.95 --output smallest
    nnit train wine.csv --target class --output my-table
    nnit predict networks new.csv

nnit COMMAND --help shows the options of a command and more examples, nnit --version
the version. A model is a local folder or the name of a repository on the Hugging Face
Hub. Results go to stdout, as JSON with --json. Progress and warnings go to stderr.

Exit codes: 0 success; 1 finished, but a requested threshold or check failed; 2 wrong
usage or input, with a one-line error; 130 interrupted."""


def main() -> None:
    """Entry point of the command `nnit`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where Ctrl-C is ignored
        for number in (signal.SIGINT, signal.SIGALRM):
            signal.signal(number, interrupt)
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # as in `nnit ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    sys.exit(code)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raises `KeyboardInterrupt`, as Python does on Ctrl-C, but never where Python would discard it.

    Python discards every exception in a `__del__`. The garbage of large imports has thousands of them, and Ctrl-C was
    lost among them. There, an alarm tries again a moment later.
    """
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def run(arguments: Sequence[str]) -> int:
    """Runs one command, prints its result and returns its exit code.

    Raises:
        `SystemExit`: With 0 after `--help`, with 2 after wrong usage.
    """
    if list(arguments) == ["--version"]:
        print(f"nnit {__version__}")
        return OK
    command = parse(arguments)
    name = next(name for name, (kind, _) in COMMANDS.items() if kind is type(command))
    # run it; errors that the user can fix become one line
    try:
        with stdout_for_results():
            report = command.run()
    except KeyboardInterrupt:
        print(f"nnit {name}: interrupted. {command.after_interrupt}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not is_users(error) or os.environ.get("NNIT_DEBUG"):
            raise
        print(f"nnit {name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    # only the result goes to stdout
    print(json.dumps(report.payload, indent=2, ensure_ascii=False) if command.json else report.text)
    return FAILED if report.failed else OK


def parse(arguments: Sequence[str]) -> Command:
    """The command that the arguments describe."""
    config = (FlagCreatePairsOff,)
    if arguments and arguments[0] in COMMANDS:
        name, *options = arguments
        return tyro.cli(COMMANDS[name][0], prog=f"nnit {name}", args=options, config=config)
    # `nnit --help` shows one line per command, `nnit COMMAND --help` the command's docstring
    described = [Annotated[kind, subcommand(name, description=line)] for name, (kind, line) in COMMANDS.items()]
    any_command: Any = Union[tuple(described)]  # noqa: UP007
    return tyro.cli(any_command, prog="nnit", description=DESCRIPTION, args=arguments, config=config)


@contextmanager
def stdout_for_results() -> Iterator[None]:
    """Redirects everything printed in the block to stderr, child processes included."""
    sys.stdout.flush()
    # child processes inherit file descriptor 1, not `sys.stdout`
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def is_users(error: Exception) -> bool:
    """Whether the user can fix an error, in the arguments, a file or the network; any other is a bug."""
    kinds: list[type[BaseException]] = [ValueError, OSError, ImportError, FloatingPointError]
    # if one of these was raised, its module has been imported
    for module, name in (("huggingface_hub.errors", "HTTPError"), ("safetensors", "SafetensorError")):
        if module in sys.modules:
            kinds.append(getattr(sys.modules[module], name))
    return isinstance(error, tuple(kinds))
