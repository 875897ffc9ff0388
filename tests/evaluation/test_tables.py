"""Tables of an evaluation, and the texts above them."""

import json
from dataclasses import replace

from nnit_diffusers.evaluation.formats import AT_END
from nnit_diffusers.evaluation.pipeline import evaluate_pipeline
from nnit_diffusers.evaluation.protocol import protocol
from nnit_diffusers.evaluation.tables import report_tables


def rows_of(tables, title):
    """Cells of the table below a heading."""
    _, _, after = tables.partition(f"### {title}\n")
    block = next(block for block in after.split("\n\n") if block.startswith("|"))
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]


def test_every_table_has_a_row_for_every_part(report):
    tables = report_tables(report)
    for name in (
        "held-out combinations",
        "[80, 80]",
        "fill in [48, None]",
        "[48, 40]",
        "GHN, average of two networks",
    ):
        assert f"| {name} " in tables
    for block in tables.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_networks_trained_directly_stand_beside_generated_ones_with_a_row_of_means(report):
    header, _, *rows, means = rows_of(report_tables(report), "Networks trained directly")
    assert header[2:6] == ["Trained directly", "NNiT, mean of all", "GHN, mean of all", "Nested slices"]
    assert [row[1] for row in rows] == ["held-out combinations", "held-out widths"]
    generated = {str(row["hidden_sizes"]): row for part in report["regions"].values() for row in part["architectures"]}
    totals = [0.0] * 4
    for row, part in zip(rows, report["direct"].values(), strict=True):
        measured = generated[row[0]]
        scores = [part["direct"]["mean"], *(measured[kind]["mean"] for kind in ("nnit", "ghn", "nested"))]
        assert row[2].startswith(f"{100 * scores[0]:.1f}% (")
        assert row[3:6] == [f"{100 * score:.1f}%" for score in scores[1:]]
        totals = [total + score for total, score in zip(totals, scores)]
    assert means == ["mean", "", *(f"{100 * total / 2:.1f}%" for total in totals), ""]


def test_without_the_generated_networks_there_is_no_row_of_means(report):
    alone = {name: report[name] for name in ("settings", "runs", "direct")}
    rows = rows_of(report_tables(alone), "Networks trained directly")[2:]
    assert [row[3:5] for row in rows] == [["-", "-"]] * 2


def test_nested_slices_have_no_score_where_there_is_no_such_slice(report):
    header, _, *rows = rows_of(report_tables(report), "Regions of architectures")
    cells = {row[0]: row[header.index("Nested slices")] for row in rows}
    assert cells["deeper"] == cells["wider"] == "-" and cells["seen in training"].endswith(")")
    # a pipeline without slices has no such column
    regions = {
        region: {name: value for name, value in part.items() if name != "nested"}
        for region, part in report["regions"].items()
    }
    assert "Nested slices" not in report_tables({**report, "regions": regions, "direct": {}, "depths": {}})


def test_captions_name_the_method_of_the_intervals_and_the_number_of_networks(report):
    tables = report_tables(report)
    assert tables.count("Brackets: 95% Student's t interval over architectures, never narrower than Wilson's") == 3
    assert tables.count("Brackets: 95% Student's t interval over networks, never narrower than Wilson's") == 3
    assert "| Best 1 of 3 (chosen on validation) " in tables and "| Architectures | " in tables
    assert "2 networks of each architecture, trained directly with Adam for 60 steps" in tables


def test_success_at_end_is_reported_for_the_best_networks_only(report, episodes_config, in_episodes, pipe, tmp_path):
    config = replace(episodes_config, num_architectures=1)
    episodes = evaluate_pipeline(pipe, in_episodes(), tmp_path / "evaluation.json", config)
    selected = [episodes["regions"]["deeper"]["nnit"]["selected"], episodes["unconditional"]["free"]["selected"]]
    # every success of this task lasts to the end
    assert [part["success_at_end"] for part in selected] == [part["mean"] for part in selected]
    assert "success_at_end" not in episodes["regions"]["deeper"]["nnit"]
    assert report_tables(episodes).count(f"| {AT_END} ") == 2
    assert AT_END in protocol(episodes)
    assert AT_END not in protocol(report) + report_tables(report)


def test_a_data_set_has_samples_and_a_simulator_episodes(report, rollouts_path):
    rollouts = json.loads(rollouts_path.read_text())
    data_set, simulator = (protocol(part) + report_tables(part) for part in (report, rollouts))
    assert "the same 360 test samples" in data_set and "episode" not in data_set
    assert "in the same 20 validation episodes, and the best 1 of 2 by that score in the same 30 test" in simulator
    assert "sample" not in simulator
    # a task judged by its return has no success at episode end
    assert AT_END not in simulator
