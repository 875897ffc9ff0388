"""Stage 4: scores a pipeline. All results in the README, the model card and docs/results.md come from its JSON.

    python examples/evaluate_nnit.py --task digits --pretrained_model_name_or_path nnit/digits \
        --output_path nnit/digits/evaluation.json

Every part is saved as soon as it is computed. The same command, run again, resumes an interrupted evaluation.
`--sections` adds sections to the same file, also while another process does.

For rollouts in a simulator, use `--num_episodes 20 --num_final_episodes 100`. All networks are then screened on a few
validation episodes, each of which stops at its first success. Only the best ones run in test episodes, to the last
step, and only they get a `success_at_end`.

In Python: `nnit_diffusers.evaluation.pipeline.evaluate_pipeline`, which this script calls.
"""

from dataclasses import dataclass

import tyro

from nnit_diffusers import NNiTPipeline
from nnit_diffusers.evaluation.config import EvaluationConfig
from nnit_diffusers.evaluation.pipeline import evaluate_pipeline
from nnit_diffusers.evaluation.tables import report_tables
from nnit_diffusers.tasks import load_task


@dataclass
class Arguments(EvaluationConfig):
    """Scores a pipeline and the GHN in its folder."""

    pretrained_model_name_or_path: str = "nnit/digits"
    """Pipeline: a folder or a Hub repository."""
    task: str = "digits"
    """Name of a registered task, or `module:name` for a task of your own."""
    data_dir: str | None = None
    """Folder where the task finds or downloads its data, if it needs any."""
    output_path: str = "nnit/digits/evaluation.json"
    """JSON file to write, or to add to."""


def main(arguments: Arguments) -> None:
    pipe = NNiTPipeline.from_pretrained(arguments.pretrained_model_name_or_path)
    task = load_task(arguments.task, arguments.data_dir)
    print(report_tables(evaluate_pipeline(pipe, task, arguments.output_path, arguments)))


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
