"""The example of a task of one's own: from its class to networks that have learned it."""

import ast
import re
from functools import partial
from pathlib import Path

import pytest
from launching import fresh_accelerate

from nnit_diffusers import get_task
from nnit_diffusers.training import train


EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_task.py"
# As in the example, but for as few steps as the task can be learned in.
SHORT = {
    "nested": {"max_train_steps": 20, "validation_architectures": 1},
    "ghn": {"max_train_steps": 100, "num_architectures": 4, "lr_warmup_steps": 5},
    "nnit": {"max_train_steps": 150, "train_batch_size": 8, "num_layers": 2, "attention_head_dim": 24},
    "tuning": None,
    "evaluation": {"sections": ["regions"], "num_architectures": 2, "num_networks": 2, "num_inference_steps": 4},
}


@pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")
def test_the_example_trains_a_generator_whose_networks_have_learned_the_task(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    import custom_task

    monkeypatch.setattr(custom_task, "train", partial(train, show_progress=False, **SHORT))
    with fresh_accelerate():
        custom_task.main(custom_task.Arguments(output_dir=str(tmp_path / "breast_cancer")))
    accuracies = [float(percent) for percent in re.findall(r"30-\S+-2 +([\d.]+)%", capsys.readouterr().out)]
    assert len(accuracies) == 16
    # 63% of the samples are benign
    assert sum(accuracies) / len(accuracies) > 90
    task = get_task("breast_cancer")
    assert (task.metric.name, task.hub_task) == ("accuracy", "tabular-classification")


def test_the_example_task_takes_at_most_30_lines():
    task_class = next(node for node in ast.parse(EXAMPLE.read_text()).body if isinstance(node, ast.ClassDef))
    assert task_class.end_lineno - task_class.decorator_list[0].lineno + 1 <= 30
