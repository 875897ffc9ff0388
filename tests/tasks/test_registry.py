import subprocess
import sys

import pytest
import torch

from nnit_diffusers.tasks import ClassificationTask, Task, get_task, list_tasks, register_task


class CoinTask(ClassificationTask):
    in_features = 1
    out_features = 2

    def __init__(self, num_samples: int = 4):
        self.num_samples = num_samples

    def load(self, split):
        return torch.zeros(self.num_samples, 1), torch.zeros(self.num_samples)


def test_built_in_tasks_are_listed_and_constructed_by_name():
    assert {"digits", "mnist"} <= set(list_tasks())
    task = get_task("digits")
    assert isinstance(task, Task)
    assert task.name == "digits"


def test_a_registered_class_is_constructed_with_the_arguments_of_get_task():
    assert register_task("coin")(CoinTask) is CoinTask
    task = get_task("coin", num_samples=7)
    assert isinstance(task, CoinTask)
    assert (task.name, task.num_samples) == ("coin", 7)
    assert "coin" in list_tasks()


def test_a_class_may_be_registered_again_but_another_may_not_take_its_name():
    register_task("coin_again")(CoinTask)
    register_task("coin_again")(CoinTask)

    class OtherTask(CoinTask):
        pass

    with pytest.raises(ValueError, match=r"received 'coin_again', the name of .*CoinTask"):
        register_task("coin_again")(OtherTask)
    with pytest.raises(ValueError, match=r"received 'mnist', the name of nnit_diffusers\.tasks\.mnist\.MNISTTask"):
        register_task("mnist")(OtherTask)


def test_an_unknown_name_is_an_error_that_lists_the_known_names():
    with pytest.raises(ValueError, match=r"one of \[.*'digits'.*'mnist'.*\], but received 'fashion'"):
        get_task("fashion")


def test_robot_tasks_are_constructed_without_a_simulator():
    code = (
        "import sys; from nnit_diffusers import get_task; get_task('pickcube');"
        "print([m for m in sys.modules if m.partition('.')[0] in ('gymnasium', 'mani_skill', 'sapien')])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_importing_the_tasks_package_imports_no_task_and_no_optional_dependency():
    code = (
        "import sys, nnit_diffusers.tasks, nnit_diffusers.evaluation;"
        "print([m for m in sys.modules if m.partition('.')[0] in ('mani_skill', 'sapien', 'sklearn', 'torchvision')"
        " or m.removeprefix('nnit_diffusers.tasks.') in ('digits', 'maniskill', 'mnist')])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
