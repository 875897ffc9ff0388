"""Every subcommand, run in this process with a tiny pipeline."""

import json
import re
import shlex
from pathlib import Path

import pytest
import tiny_tasks
import torch
from command_results import assert_bad_input, files_below
from tiny import tiny_pipeline

import nnit_diffusers
from nnit_diffusers import MLP, MLPArchitecture, evaluate
from nnit_diffusers.cli.main import COMMANDS, parse
from nnit_diffusers.cli.sources import load_networks
from nnit_diffusers.export import quantize
from nnit_diffusers.pipelines.fingerprint import fingerprints
from nnit_diffusers.writing import write_json


QUICK = ("--num-inference-steps", 1)


def test_generate_saves_the_networks_that_the_pipeline_generates(nnit, published):
    options = ("--arch", 9, 7, "--arch", 5, "--num-networks", 2, "--seed", 3, *QUICK)
    result = nnit("generate", published, *options, "--output", "out", "--json")
    expected = tiny_pipeline()(
        [[9, 7], [5]], num_networks=2, num_inference_steps=1, generator=torch.Generator().manual_seed(3)
    ).networks
    assert result.code == 0
    assert [entry["name"] for entry in result.json["networks"]] == [f"network-{index}" for index in range(4)]
    for entry, network in zip(result.json["networks"], expected, strict=True):
        saved = MLP.from_pretrained(Path("out") / entry["name"])
        assert MLPArchitecture(**entry["architecture"]) == saved.architecture == network.architecture
        torch.testing.assert_close(saved.state_dict(), network.state_dict())


def test_the_list_of_networks_records_how_they_were_generated(nnit, published):
    result = nnit("generate", published, "--max-parameters", 100, "--output", "out", "--json", *QUICK)
    listed = json.loads(Path("out/networks.json").read_text())
    assert {"output": "out", **listed} == result.json
    assert listed["task"] == "tiny_data" and listed["generation"]["max_parameters"] == 100
    assert listed.items() >= fingerprints(tiny_pipeline(ghn=True)).items()
    assert listed["networks"][0]["num_parameters"] <= 100


def test_the_model_chooses_widths_given_as_none(nnit, published):
    result = nnit("generate", published, "--arch", 9, "None", "--output", "out", "--json", *QUICK)
    first, second = result.json["networks"][0]["architecture"]["hidden_sizes"]
    assert first == 9 and 4 <= second <= 12


def test_only_force_overwrites_and_only_folders_of_the_same_command(nnit, published, networks):
    before = files_below(networks)
    again = ("generate", published, "--arch", 5, "--output", networks, *QUICK)
    assert_bad_input(nnit(*again), "'networks', which exists: add --force")
    assert files_below(networks) == before
    assert nnit(*again, "--force").code == 0
    assert set(files_below(networks)) == {"networks.json", *(f"network-0/{name}" for name in
                                          ("config.json", "model.safetensors", "README.md"))}  # fmt: skip
    Path("thesis").mkdir()
    Path("thesis/thesis.tex").write_text("years of work")
    foreign = nnit("generate", published, "--arch", 5, "--output", "thesis", "--force", *QUICK)
    assert_bad_input(foreign, "holds no networks.json: --force replaces only what this command wrote")
    assert files_below("thesis") == {"thesis.tex": b"years of work"}


def test_scores_of_saved_networks_are_those_of_evaluate(nnit, networks):
    result = nnit("evaluate", networks, "--task", "tiny_tasks:tiny_data", "--json", "--output", "scores.json")
    saved = list(load_networks(networks).values())
    expected = [scored.to_dict() for scored in evaluate(saved, tiny_tasks.TinyDataTask())]
    found = [{k: v for k, v in entry.items() if k != "name"} for entry in result.json["networks"]]
    assert result.code == 0 and found == json.loads(json.dumps(expected))
    assert json.loads(Path("scores.json").read_text()) == result.json
    assert_bad_input(nnit("evaluate", networks, "--output", "scores.json"), "which exists: add --force")


def test_networks_are_scored_with_the_weights_of_a_chip(nnit, networks):
    result = nnit("evaluate", networks, "--quantize", "int8", "--json")
    exported = [quantize(network) for network in load_networks(networks).values()]
    expected = [scored.score for scored in evaluate(exported, tiny_tasks.TinyDataTask())]
    assert [entry["score"] for entry in result.json["networks"]] == expected and result.json["quantize"] == "int8"
    assert result.json["networks"][0]["architecture"]["hidden_sizes"] == [9, 7]


def test_the_default_task_is_the_one_recorded_with_the_networks(nnit, networks):
    assert nnit("evaluate", networks, "--json").json["task"] == "tiny_data"
    MLP(5, [4], 3).save_pretrained("of-nothing")
    assert_bad_input(nnit("evaluate", "of-nothing"), "`--task` must name a task")


def test_single_networks_and_folders_of_networks_are_scored_together(nnit, networks):
    result = nnit(
        "evaluate", networks, f"{networks}/network-1", "--split", "validation", "--num-episodes", 50, "--json"
    )
    _, second, again = result.json["networks"]
    names = [entry["name"] for entry in result.json["networks"]]
    assert names == ["networks/network-0", "networks/network-1", "networks/network-1"]
    assert second["num_successes"] == again["num_successes"] and again["num_episodes"] == 50


def test_evaluating_a_pipeline_scores_networks_that_it_generates(nnit, published, networks):
    options = ("--arch", 9, 7, "--num-networks", 2, *QUICK)
    fresh = nnit("evaluate", published, "--json", *options).json
    saved = nnit("evaluate", networks, "--json").json
    assert fresh["networks"] == saved["networks"]
    both = nnit("evaluate", published, networks, "--json", *options).json["networks"]
    assert [entry["name"] for entry in both[:2]] == [f"{published}/network-0", f"{published}/network-1"]
    assert [entry["score"] for entry in both] == 2 * [entry["score"] for entry in saved["networks"]]
    assert_bad_input(nnit("evaluate", networks, *options), "must be a pipeline to use the options ['--arch'")


def test_a_score_below_min_score_fails(nnit, networks):
    minimum = nnit("evaluate", networks, "--json").json["min_score"]
    assert nnit("evaluate", networks, "--min-score", minimum).code == 0
    failed = nnit("evaluate", networks, "--min-score", minimum + 0.001)
    assert failed.code == 1 and "Less than --min-score" in failed.out


def test_info_shows_sizes_and_results_of_a_pipeline(nnit, published):
    shown = nnit("info", published, "--json").json
    pipeline = tiny_pipeline(ghn=True)
    sizes = {name: shown["components"][name]["num_parameters"] for name in ("transformer", "ghn")}
    assert sizes == {"transformer": sum(t.numel() for t in pipeline.transformer.state_dict().values()),
                     "ghn": sum(t.numel() for t in pipeline.ghn.state_dict().values())}  # fmt: skip
    assert (shown["task"], shown["in_features"], shown["out_features"], shown["max_width"]) == ("tiny_data", 5, 3, 12)
    assert shown["measured"]["seen"] == {"mean": 0.34567, "interval": [0.2, 0.5], "interval_method": "student_t",
                                         "num_architectures": 5, "min": 0.1, "success_at_end": None,
                                         "num_networks": 10}  # fmt: skip
    line = "seen                   34.6% (20.0% to 50.0%), minimum 10.0%, 10 networks of 5 architectures"
    assert line in nnit("info", published).out


@pytest.mark.parametrize(
    ("task", "env_id", "num_observed", "observed"),
    [
        ("pickcube", "PickCube-v1", 42, "is grasped 18 (0 or 1), tool centre point position 19:22 (m)"),
        ("pushcube", "PushCube-v1", 35, "joint positions 0:7 (rad), finger positions 7:9 (m)"),
        ("stackcube-easy", "StackCubeEasy-v1", 48, "quaternion 21:25 (w, x, y, z), cube A position 25:28 (m)"),
    ],
)
def test_info_of_a_robot_task_shows_environment_control_and_layouts(
    nnit, published, task, env_id, num_observed, observed
):
    report = json.loads((published / "evaluation.json").read_text())
    report["settings"] |= {"task": task, "num_test_episodes": 400}
    report["regions"]["seen"]["nnit"]["success_at_end"] = 0.3
    write_json(published / "evaluation.json", report)
    shown = nnit("info", published, "--json").json
    assert (shown["environment"], shown["control_mode"]) == (env_id, "pd_joint_delta_pos")
    assert observed in shown["observation_layout"] and f":{num_observed} (" in shown["observation_layout"]
    assert shown["action_layout"] == "joint deltas 0:7 (-1 to 1 for -0.1 to 0.1 rad), fingers 7 (-1 closed to 1 open)"
    text = nnit("info", published).out
    assert f"Robot       {env_id} of ManiSkill, control mode pd_joint_delta_pos" in text
    assert "Measured    success in any step, mean of all networks, 20 denoising steps, 400 test episodes" in text
    assert "34.6% (20.0% to 50.0%), success at episode end 30.0%, minimum 10.0%, 10 networks" in text


def test_info_shows_architectures_and_sizes_of_networks(nnit, networks):
    shown = nnit("info", networks, "--json").json
    assert (shown["kind"], len(shown["networks"])) == ("networks", 2)
    shown = nnit("info", f"{networks}/network-0", "--json").json
    assert (shown["hidden_sizes"], shown["num_parameters"]) == ([9, 7], MLPArchitecture(5, (9, 7), 3).num_parameters)
    assert "[9, 7], 148 parameters" in nnit("info", f"{networks}/network-0").out
    assert "network-1   [9, 7], 148 parameters" in nnit("info", networks).out
    Path("empty").mkdir()
    assert_bad_input(nnit("info", "empty"), "'empty' must hold one of model_index.json (pipeline)")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("evaluation.json", "[]", "must hold a JSON object, but holds a list"),
        ("evaluation.json", '{"settings": {"task": 3}}', "must record a task by its name, but have 3"),
        ("evaluation.json", '{"settings": []}', "must hold a pipeline as this package writes it"),
        ("model_index.json", '{"transformer": []}', "must hold a pipeline as this package writes it: IndexError"),
        ("tokenizer/tokenizer_config.json", "{}", "must hold a pipeline as this package writes it: KeyError"),
        ("transformer/diffusion_pytorch_model.safetensors", "version https://git-lfs", "is a Git LFS pointer"),
        ("transformer/config.json", " " * (2**24 + 1), "must have at most 16,777,216 bytes"),
    ],
)
def test_info_refuses_what_this_package_does_not_write_in_one_line(nnit, published, name, content, message):
    (published / name).write_text(content)
    assert_bad_input(nnit("info", published), message)


@pytest.mark.parametrize("networks_json", ["{}", '{"networks": 3}', '{"networks": ["a"]}', '{"networks": [{}]}'])
def test_a_list_of_networks_without_names_is_refused(nnit, networks, networks_json):
    Path(networks, "networks.json").write_text(networks_json)
    assert_bad_input(nnit("evaluate", networks, "--task", "digits"), "networks.json of 'networks' must")
    assert_bad_input(nnit("info", networks), "'networks' must hold a networks as this package writes it")


def test_a_list_of_networks_that_leaves_its_folder_is_refused(nnit, networks):
    listed = json.loads(Path(networks, "networks.json").read_text())
    listed["networks"][0]["name"] = "../networks/network-0"
    write_json(Path(networks, "networks.json"), listed)
    assert_bad_input(nnit("evaluate", networks), "must name folders beside it, but names '../networks/network-0'")


def test_a_search_saves_winner_plot_and_state(nnit, published):
    options = (
        "--task",
        "tiny_tasks:tiny_demand",
        "--num-bands",
        3,
        "--networks-per-band",
        2,
        *QUICK,
        "--output",
        "out",
    )
    result = nnit("search", published, *options, "--json")
    assert result.code == 0 and result.json["winner"] is not None
    assert {"search.json", "front.png", "winner/model.safetensors"} <= set(files_below("out"))
    network = MLP.from_pretrained("out/winner")
    (winner,) = [entry for entry in result.json["finalists"] if entry["name"] == result.json["winner"]]
    assert network.architecture.to_dict() == winner["architecture"]
    unmet = nnit("search", published, *options, "--target", 0.999)
    assert unmet.code == 1 and "No network's lower bound reaches 99.9%" in unmet.out
    assert_bad_input(nnit("search", published, *options, "--seed", 1), "differs in seed (0 there)")
    assert nnit("search", published, *options, "--seed", 1, "--force").code == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_the_help_are_valid_commands(nnit, name):
    shown = nnit(name, "--help")
    examples = [line.strip() for line in shown.out.splitlines() if line.startswith("    nnit ")]
    assert shown.code == 0 and examples
    for example in examples:
        assert type(parse(example.split()[1:])) is COMMANDS[name][0]


def test_commands_in_the_docs_are_valid_and_cover_every_subcommand():
    page = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text()
    lines = re.findall(r"^nnit .*$", page, re.MULTILINE)
    kinds = {type(parse(shlex.split(line)[1:])) for line in lines}
    assert kinds == {kind for kind, _ in COMMANDS.values()}


def test_the_version_is_shown(nnit):
    result = nnit("--version")
    assert (result.code, result.out) == (0, f"nnit {nnit_diffusers.__version__}\n")


def test_a_task_recorded_in_a_folder_never_imports_a_module(nnit, tmp_path, networks):
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()\n")
    path = Path(networks, "networks.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task": "evil:tiny_data"}))
    result = nnit("evaluate", networks)
    assert result.code == 2 and "the files name task 'evil:tiny_data'" in result.err
    assert not list(tmp_path.rglob("ran"))


def test_a_huge_result_file_is_refused(nnit, networks):
    with open(Path(networks, "networks.json"), "r+b") as file:
        file.truncate(2**24 + 1)
    result = nnit("evaluate", networks)
    assert result.code == 2 and "at most 16,777,216 bytes" in result.err
