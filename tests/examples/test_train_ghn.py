import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import train_ghn as script
from launching import ONE_PROCESS, assert_same_files, cpu_environment, flags, launch, logged, run
from launching import TINY_GHN as TINY

from nnit_diffusers import GraphHyperNetwork, evaluate
from nnit_diffusers.training.checkpoints import checkpoint_step, list_checkpoints
from nnit_diffusers.training.hypernetwork import diversity_target


# diffusers' own `EMAModel.from_pretrained` triggers a deprecation warning of diffusers.
pytestmark = pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")

# Settings with which a step does not depend on the total number of steps.
ENDLESS = {**TINY, "lr_scheduler": "constant", "diversity_target": 1.0, "validation_steps": 10**6}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training run of 60 steps, launched as users do."""
    output_dir = tmp_path_factory.mktemp("outputs") / "ghn"
    arguments = {
        **TINY,
        "node_dim": 16,
        "num_templates": 8,
        "diversity_target": 1.0,
        "train_batch_size": 64,
        "learning_rate": 3e-2,
        "lr_warmup_steps": 5,
        "ema_decay": 0.9,
        "max_train_steps": 60,
        "checkpointing_steps": 20,
        "checkpoints_total_limit": 2,
        "validation_steps": 30,
    }
    log = launch(ONE_PROCESS, script.__file__, "--output_dir", str(output_dir), *flags(arguments))
    assert "on 1 process(es)" in log
    return output_dir


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    arguments = {**ENDLESS, "max_train_steps": 6, "checkpointing_steps": 1, "checkpoints_total_limit": None}
    return run(script, tmp_path_factory.mktemp("uninterrupted"), **arguments)


def test_checkpoints_are_written_at_their_steps_and_the_oldest_removed(trained):
    assert {path.name for path in trained.iterdir()} == {
        "checkpoint-40",
        "checkpoint-60",
        "ghn",
        "logs",
        "training.json",
    }


def test_the_final_ghn_and_those_of_a_checkpoint_generate_networks(trained, digits):
    for folder in (trained / "ghn", trained / "checkpoint-40" / "ghn", trained / "checkpoint-40" / "ghn_ema"):
        ghn = GraphHyperNetwork.from_pretrained(folder)
        networks = ghn.generate([digits.regions.architecture([48, 40])] * 20, generator=torch.manual_seed(0))
        scores = [result.score for result in evaluate(networks, digits, split="validation")]
        assert sum(scores) / len(scores) > 0.3, folder


def test_the_averaged_weights_are_saved(trained):
    saved, averaged, last = (
        GraphHyperNetwork.from_pretrained(trained / name).state_dict()
        for name in ("ghn", "checkpoint-60/ghn_ema", "checkpoint-60/ghn")
    )
    assert all(torch.equal(saved[name], averaged[name]) for name in saved)
    assert not any(torch.equal(saved[name], last[name]) for name in saved)


def test_the_loss_falls(trained):
    losses = list(logged(trained, "loss").values())
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_validation_scores_are_logged_at_their_steps(trained):
    for region in ("seen", "held_out_combinations", "held_out_widths"):
        scores = logged(trained, f"validation/{region}")
        assert list(scores) == [30, 60]
        assert all(0 < score < 1 for score in scores.values())


def test_a_training_run_records_its_arguments_command_and_validation(trained):
    record = json.loads((trained / "training.json").read_text())
    assert record["arguments"]["learning_rate"] == 3e-2
    assert "--max_train_steps 60" in record["command"]
    logged_scores = logged(trained, "validation/seen")
    assert [metrics["step"] for metrics in record["validation"]] == [30, 60]
    for metrics in record["validation"]:
        assert metrics["validation/seen"] == pytest.approx(logged_scores[metrics["step"]])


@pytest.mark.parametrize("gradient_accumulation_steps", [1, 2])
def test_a_resumed_training_run_equals_the_uninterrupted_one(tmp_path, gradient_accumulation_steps):
    arguments = {
        **TINY,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "max_train_steps": 6,
        "checkpointing_steps": 3,
        "lr_warmup_steps": 4,
    }
    complete = run(script, tmp_path / "complete", **arguments)
    shutil.copytree(complete / "checkpoint-3", tmp_path / "resumed" / "checkpoint-3")
    resumed = run(script, tmp_path / "resumed", resume_from_checkpoint="latest", **arguments)
    for folder in ("checkpoint-6", "ghn"):
        assert_same_files(resumed / folder, complete / folder)
    for curve in ("loss", "diversity", "cosine", "least_spread", "lr"):
        expected = logged(complete, curve)
        assert logged(resumed, curve) == pytest.approx({step: expected[step] for step in (4, 5, 6)}, rel=1e-3)


def test_a_training_run_killed_while_saving_resumes_from_its_last_complete_checkpoint(tmp_path, uninterrupted):
    command = [sys.executable, script.__file__, "--output_dir", str(tmp_path)]
    endless = {**ENDLESS, "max_train_steps": 6, "checkpointing_steps": 1}
    process = subprocess.Popen([*command, *flags(endless)], env=cpu_environment(), stderr=subprocess.DEVNULL)
    stop_while_saving(process, tmp_path)
    process.kill()
    process.wait()
    assert list(tmp_path.glob("partial-*"))
    last = list_checkpoints(tmp_path)[-1]
    for folder in ("ghn", "ghn_ema"):
        assert_same_files(last / folder, uninterrupted / last.name / folder)

    resumed = run(script, tmp_path, resume_from_checkpoint="latest", **endless)
    assert_same_files(resumed / "ghn", uninterrupted / "ghn")
    assert not list(tmp_path.glob("partial-*"))


def stop_while_saving(process, output_dir):
    """Stops a training run while it writes a checkpoint that is not its first."""
    while process.poll() is None:
        if list_checkpoints(output_dir) and list(output_dir.glob("partial-*")):
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            if list(output_dir.glob("partial-*")):
                return
            process.send_signal(signal.SIGCONT)
        time.sleep(0.001)
    pytest.fail(f"The training run ended with {process.returncode} before it could be killed.")


def test_every_checkpoint_is_kept_without_a_limit(uninterrupted):
    assert [checkpoint_step(folder) for folder in list_checkpoints(uninterrupted)] == [1, 2, 3, 4, 5, 6]


def test_mixed_precision_has_nearly_the_losses_of_full_precision(tmp_path, uninterrupted):
    run(script, tmp_path, max_train_steps=3, mixed_precision="bf16", **ENDLESS)
    exact, rounded = logged(uninterrupted, "loss"), logged(tmp_path, "loss")
    for step in (1, 2, 3):
        assert rounded[step] != exact[step]
        assert rounded[step] == pytest.approx(exact[step], rel=0.05)
    assert GraphHyperNetwork.from_pretrained(tmp_path / "ghn").dtype == torch.float32


def test_without_an_average_the_last_weights_are_saved(tmp_path, uninterrupted):
    run(script, tmp_path, max_train_steps=6, checkpointing_steps=6, use_ema=False, **ENDLESS)
    assert not (tmp_path / "checkpoint-6" / "ghn_ema").exists()
    assert_same_files(tmp_path / "ghn", uninterrupted / "checkpoint-6" / "ghn")


def test_the_diversity_target_falls_linearly_from_one():
    arguments = script.Arguments(output_dir="outputs", max_train_steps=100, diversity_target=0.6, diversity_end=0.5)
    allowed = [diversity_target(arguments, step) for step in (0, 25, 50, 100)]
    assert allowed == pytest.approx([1, 0.8, 0.6, 0.6])


def test_a_loss_that_is_not_finite_stops_the_training_run(tmp_path):
    with pytest.raises(FloatingPointError, match="The loss became .* at step 2; lower `learning_rate`"):
        run(script, tmp_path, max_train_steps=3, learning_rate=1e30, lr_warmup_steps=0, **ENDLESS)


def test_bad_requests_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"one of \[.*'digits'.*but received 'chess'"):
        run(script, tmp_path / "a", task="chess", **TINY)
    with pytest.raises(ValueError, match=r"one of \[\] in .*but received 'checkpoint-7'"):
        run(script, tmp_path / "a", resume_from_checkpoint="checkpoint-7", **TINY)
    with pytest.raises(ValueError, match="`latents_per_architecture` must be 2 or more, but received 1"):
        run(script, tmp_path / "a", latents_per_architecture=1, **TINY)
    assert not list(tmp_path.iterdir())
