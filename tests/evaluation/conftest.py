"""The pipeline that is evaluated, its report, and a task with episodes that a test can interrupt."""

import json
from copy import copy
from dataclasses import replace

import pytest
from untrained import FEW

from nnit_diffusers import NNiTPipeline
from nnit_diffusers.evaluation.config import EvaluationConfig
from nnit_diffusers.tasks.digits import DigitsTask


class DigitsInEpisodesTask(DigitsTask):
    """Digits with the metrics of rollouts: a `success_at_end`, except for screening.

    Parameters:
        calls_left (`int`): Number of calls of `score` before a Ctrl-C.
    """

    name = "digits_in_episodes"
    is_screening = False

    def __init__(self, calls_left=1_000_000):
        super().__init__()
        # shared with the copy for screening
        self.calls = {"left": calls_left}

    def for_screening(self):
        screening = copy(self)
        screening.is_screening = True
        return screening

    def score(self, *args, **kwargs):
        if self.calls["left"] == 0:
            raise KeyboardInterrupt
        self.calls["left"] -= 1
        scores = super().score(*args, **kwargs)
        metrics = [{} if self.is_screening else {"success_at_end": s.num_successes / s.num_episodes} for s in scores]
        return [replace(score, metrics=of_score) for score, of_score in zip(scores, metrics)]


@pytest.fixture(scope="session")
def in_episodes():
    """Makes a task with episodes; its argument is the number of calls before a Ctrl-C."""
    return DigitsInEpisodesTask


@pytest.fixture(scope="session")
def pipe(digits_pipeline_folder):
    pipe = NNiTPipeline.from_pretrained(digits_pipeline_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def config():
    return EvaluationConfig(**FEW)


@pytest.fixture(scope="session")
def episodes_config(config):
    """Settings with which all networks are screened, and only the best ones run in test episodes."""
    return replace(
        config, sections=("regions", "unconditional"), regions=("deeper",), num_episodes=20, num_final_episodes=50
    )


@pytest.fixture(scope="session")
def report(evaluation_path):
    return json.loads(evaluation_path.read_text())
