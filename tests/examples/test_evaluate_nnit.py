"""The script of the evaluation: it runs, prints the tables, and takes its settings from the command line."""

import json

import tyro
from evaluate_nnit import Arguments, main
from untrained import FEW


def test_the_script_writes_the_report_and_prints_its_tables(digits_pipeline_folder, tmp_path, capsys):
    path = tmp_path / "evaluation.json"
    main(Arguments(**FEW | {"sections": ("widths",)}, pretrained_model_name_or_path=str(digits_pipeline_folder),
                   output_path=str(path)))  # fmt: skip
    report = json.loads(path.read_text())
    assert set(report) == {"settings", "runs", "widths"}
    printed = capsys.readouterr().out
    assert "### Widths" in printed and "| [80, 80]" in printed


def test_the_command_line_takes_counts_and_sections():
    line = "--num_networks 7 --sections unconditional steps --parameter_range 1 2 --widths 3 4"
    arguments = tyro.cli(Arguments, args=line.split(), use_underscores=True)
    assert arguments.num_networks == 7
    assert arguments.sections == ("unconditional", "steps")
    assert arguments.parameter_range == (1, 2)
    # sizes are derived from the task
    assert arguments.max_parameters is None
