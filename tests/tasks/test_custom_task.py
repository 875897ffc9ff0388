import ast
import re
import subprocess
import sys
from pathlib import Path


EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_task.py"


def test_the_example_trains_and_scores_networks_on_its_own_task():
    printed = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=True).stdout
    accuracies = [float(percent) for percent in re.findall(r"30-\S+-2 +([\d.]+)%", printed)]
    assert len(accuracies) == 2
    assert min(accuracies) > 93


def test_the_example_task_takes_at_most_30_lines():
    (task_class,) = (node for node in ast.parse(EXAMPLE.read_text()).body if isinstance(node, ast.ClassDef))
    assert task_class.end_lineno - task_class.decorator_list[0].lineno + 1 <= 30
