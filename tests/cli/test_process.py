"""The command `nnit` as a shell starts it, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnit_diffusers.network_search import Candidate


ROOT = Path(__file__).parents[2]
NNIT = Path(sys.executable).with_name("nnit")
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(ROOT / "tests"),
}
SEARCH = (
    "--task",
    "tiny_tasks:tiny_demand",
    "--num-bands",
    "4",
    "--networks-per-band",
    "2",
    "--json",
    "--output",
    "out",
)


def shell(*arguments, cwd, **environment):
    command = [str(NNIT), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={**ENVIRONMENT, **environment}, capture_output=True, text=True)


def start(*arguments, cwd):
    command = [str(NNIT), *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A process that a shell starts in the background ignores Ctrl-C, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition, process):
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def saved(folder):
    """What a search has saved so far."""
    path = folder / "search.json"
    return json.loads(path.read_text()) if path.exists() else {"bands_done": [], "candidates": []}


def test_help_imports_no_slow_packages():
    code = (
        "import sys\n"
        "from nnit_diffusers.cli.main import COMMANDS, run\n"
        "for arguments in [['--help'], *([name, '--help'] for name in COMMANDS)]:\n"
        "    try: run(arguments)\n"
        "    except SystemExit as exit_: assert exit_.code in (0, None)\n"
        "assert not {'torch', 'numpy', 'diffusers', 'huggingface_hub'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("arguments", [[], ["paint"], ["info"], ["generate", "x", "--arch", "wide", "--output", "y"]])
def test_wrong_usage_exits_with_2_and_prints_nothing_to_stdout(tmp_path, arguments):
    process = shell(*arguments, cwd=tmp_path)
    assert (process.returncode, process.stdout) == (2, "")
    assert "Traceback" not in process.stderr and process.stderr


def test_wrong_input_exits_with_2_and_one_line_and_nnit_debug_adds_a_traceback(tmp_path):
    process = shell("info", "nowhere/nothing", cwd=tmp_path)
    assert (process.returncode, process.stdout) == (2, "")
    (line,) = process.stderr.splitlines()
    assert line.startswith("nnit info: error: 'nowhere/nothing' is neither a folder nor cached")
    process = shell("info", "nowhere/nothing", cwd=tmp_path, NNIT_DEBUG="1")
    assert process.returncode == 1 and "Traceback" in process.stderr


def test_the_published_digits_model_generates_exports_and_scores_a_network(tmp_path):
    digits = ROOT / "nnit" / "digits"
    generated = shell("generate", digits, "--arch", 48, 40, "--json", "--output", "out", cwd=tmp_path)
    assert generated.returncode == 0, generated.stderr
    assert json.loads(generated.stdout)["networks"][0]["architecture"]["hidden_sizes"] == [48, 40]
    assert "1/1" in generated.stderr
    exported = shell("export", "out", "--format", "onnx", "--output", "digits.onnx", cwd=tmp_path)
    assert exported.returncode == 0 and (tmp_path / "digits.onnx").exists(), exported.stderr
    scored = shell("evaluate", "out", "--json", "--min-score", 0.9, cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["mean_score"] > 0.9


def test_output_printed_by_a_task_goes_to_stderr_and_not_into_the_json(tmp_path, published):
    (tmp_path / "loud.py").write_text(
        "import os\n"
        "from tiny_tasks import TinyDataTask\n"
        "from nnit_diffusers import register_task\n"
        "@register_task('loud')\n"
        "class LoudTask(TinyDataTask):\n"
        "    def score(self, *args, **kwargs):\n"
        "        print('printed')\n"
        "        os.system('echo started')\n"
        "        return super().score(*args, **kwargs)\n"
    )
    options = ("--num-inference-steps", 1, "--task", "loud:loud", "--json")
    process = shell("evaluate", published, *options, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["task"] == "loud"
    assert {"printed", "started"} <= set(process.stderr.splitlines())


def test_ctrl_c_leaves_no_partial_files(tmp_path, published):
    process = start(
        "generate", published, "--arch", 9, "--num-inference-steps", 100_000, "--output", "out", cwd=tmp_path
    )
    wait_until(lambda: "/100000" in os.read(process.stderr.fileno(), 1000).decode(errors="replace"), process)
    before = sorted(path.name for path in tmp_path.iterdir())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "nnit generate: interrupted. Nothing was written."
    assert sorted(path.name for path in tmp_path.iterdir()) == before == ["nnit"]


def test_a_killed_search_resumes_and_finds_the_same_result(tmp_path, published, nnit, monkeypatch):
    folder = tmp_path / "out"
    quick = ("--num-inference-steps", 1)
    process = start("search", published, *SEARCH, *quick, cwd=tmp_path)
    wait_until(lambda: len(saved(folder)["bands_done"]) >= 2, process)
    process.kill()
    process.communicate()
    resumed = shell("search", published, *SEARCH, *quick, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    uninterrupted = nnit("search", published, *SEARCH, *quick)
    candidates = []
    for of in (tmp_path, tmp_path / "again"):
        found = [Candidate.from_dict(candidate) for candidate in saved(of / "out")["candidates"]]
        candidates.append([(c.name, c.architecture, c.screenings, c.confirmation) for c in found])
    assert candidates[0] == candidates[1]
    assert json.loads(resumed.stdout)["winner"] == uninterrupted.json["winner"]
    for weights in (tmp_path / "again" / "out" / "networks").rglob("*.safetensors"):
        same = folder / weights.relative_to(tmp_path / "again" / "out")
        assert same.read_bytes() == weights.read_bytes()


def test_an_unreachable_hub_is_a_one_line_error(tmp_path, published):
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_none"}
    process = shell("publish", published, cwd=tmp_path, **unreachable)
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1].startswith("nnit publish: error: ")
    assert "Traceback" not in process.stderr


def test_a_closed_stdout_causes_no_traceback(tmp_path, published):
    process = start("--help", cwd=tmp_path)
    process.stdout.close()
    process.wait(timeout=60)
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_ctrl_c_is_not_lost_in_the_garbage_of_imports():
    code = (
        "import os, signal, time\n"
        "from nnit_diffusers.cli.main import interrupt\n"
        "for number in (signal.SIGINT, signal.SIGALRM):\n"
        "    signal.signal(number, interrupt)\n"
        "class Garbage:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "Garbage()\n"
        "try:\n"
        "    time.sleep(30)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=25)
    assert (process.stdout, process.stderr) == ("interrupted\n", "")
