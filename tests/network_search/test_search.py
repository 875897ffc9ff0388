"""The search with a real pipeline, on a task with known success rates."""

import json
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import pytest
import torch
from PIL import Image
from tiny import MAX_DEPTH, MAX_WIDTH, MIN_WIDTH, tiny_pipeline
from tiny_tasks import TinyDataTask, TinyDemandTask

from nnit_diffusers import MLP, MLPArchitecture, evaluate, get_task, search
from nnit_diffusers.evaluation import EvaluationResult
from nnit_diffusers.network_search import Candidate, SearchPlan, SearchResult
from nnit_diffusers.network_search.report import plot_search, search_table
from nnit_diffusers.network_search.search import episodes_needed, parameter_bands
from nnit_diffusers.tasks import Score


SMALL = {"num_bands": 4, "networks_per_band": 3, "reduction": 2, "num_inference_steps": 1, "progress_bar": False}
ROBOT_TASKS = ("pickcube", "pushcube", "stackcube", "stackcube-easy")
NUM_CALLS_THAT_INTERRUPT = [0, 3, 8, 13]


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline(ghn=True)


@pytest.fixture(scope="module")
def finished(pipe, tmp_path_factory):
    """A finished search, and the task that scored its networks."""
    task = TinyDemandTask()
    return search(pipe, task, tmp_path_factory.mktemp("finished"), **SMALL), task


def found(result):
    """All results of a search except latencies, which vary between runs."""
    saved = json.loads((result.output_dir / "search.json").read_text())
    candidates = [{k: v for k, v in candidate.items() if k != "latency_us"} for candidate in saved["candidates"]]
    networks = {c.name: result.network(c).state_dict() for c in result.candidates}
    return saved["settings"], candidates, saved["result"]["winner"], saved["result"]["front"], networks


def assert_same(found_here, found_there):
    assert found_here[:-1] == found_there[:-1]
    torch.testing.assert_close(found_here[-1], found_there[-1], rtol=0, atol=0)


def candidate(hidden_sizes, num_successes, num_episodes=400, latency_us=1.0, name="a"):
    architecture = MLPArchitecture(5, tuple(hidden_sizes), 3)
    confirmation = EvaluationResult.from_score(Score(num_successes, num_episodes), architecture)
    return Candidate(name, 0, architecture, latency_us, [], confirmation)


def test_the_winner_is_the_smallest_network_that_reaches_the_target_also_on_other_episodes(finished):
    result, _ = finished
    smaller = [c for c in result.finalists if c.num_parameters < result.winner.num_parameters]
    # most episodes demand up to 140 parameters
    assert result.winner.num_parameters >= 140 and smaller
    assert result.winner.confirmation.confidence_interval[0] >= result.target
    assert all(c.confirmation.confidence_interval[0] < result.target for c in smaller)
    (again,) = evaluate([result.network(result.winner)], TinyDemandTask(), 1000, seed=77, split="validation")
    assert again.score >= result.target


def test_each_band_is_halved_separately_and_its_remaining_networks_are_confirmed(finished):
    result, _ = finished
    for band in range(4):
        rounds = [len(c.screenings) for c in result.candidates if c.band == band]
        assert sorted(rounds) == [1, 2, 2]
    assert [c.band for c in result.finalists] == [0, 1, 2, 3]


def test_every_round_has_new_validation_episodes_and_confirmation_has_test_episodes(finished):
    _, task = finished
    assert set(task.calls) == {("validation", 25, 0), ("validation", 100, 1), ("test", 400, 2)}


def test_episodes_of_all_rounds_run_where_the_caller_says(pipe, finished, tmp_path):
    class PlacedTask(TinyDemandTask):
        places = ()

        def score(self, networks, *, num_workers=None, **kwargs):
            self.places += (num_workers,)
            return super().score(networks, **kwargs)

    task = PlacedTask()
    with ThreadPoolExecutor(1) as executor:
        assert_same(found(search(pipe, task, tmp_path, num_workers=executor, **SMALL)), found(finished[0]))
        assert set(task.places) == {executor} and len(task.places) > 2
        assert executor.submit(int, "4").result() == 4


def test_screening_scores_only_success_and_confirmation_all_metrics(pipe, finished, tmp_path):
    class CheaplyScreenedTask(TinyDemandTask):
        is_screening = False

        def for_screening(self):
            screening = copy(self)
            screening.is_screening = True
            return screening

        def score(self, *args, **kwargs):
            scores = super().score(*args, **kwargs)
            return [Score(s.num_successes, s.num_episodes) for s in scores] if self.is_screening else scores

    result = search(pipe, CheaplyScreenedTask(), tmp_path, **SMALL)
    assert all(screening.metrics == {} for c in result.candidates for screening in c.screenings)
    assert [c.confirmation for c in result.finalists] == [c.confirmation for c in finished[0].finalists]
    assert all("num_parameters" in c.confirmation.metrics for c in result.finalists)


def test_arguments_override_the_plan_of_a_search(pipe, tmp_path):
    task = TinyDemandTask()
    plan = {"num_bands": 2, "networks_per_band": 2, "screen_episodes": (5,), "reduction": 2}
    options = {**plan, "num_confirm_episodes": 80, "num_inference_steps": 1, "progress_bar": False}
    result = search(pipe, task, tmp_path, **options)
    assert (len(result.candidates), len(result.finalists)) == (4, 2)
    assert set(task.calls) == {("validation", 5, 0), ("test", 80, 1)}


@pytest.mark.parametrize("source", ["ghn", "nested"])
def test_candidates_may_come_from_another_model_of_the_pipeline(pipe, finished, tmp_path, source):
    result = search(pipe, TinyDemandTask(), tmp_path, source=source, **SMALL)
    for candidate, other in zip(result.candidates, finished[0].candidates, strict=True):
        # the same ranges of sizes
        assert candidate.band == other.band
        least, most = parameter_bands(pipe, SMALL["num_bands"])[candidate.band]
        assert least <= candidate.num_parameters <= most
    if source == "nested":
        for candidate in result.candidates:
            (expected,) = pipe.nested.generate([candidate.architecture])
            torch.testing.assert_close(result.network(candidate).state_dict(), expected.state_dict())
    # the folder of a search of one source is no search of another
    with pytest.raises(ValueError, match="source"):
        search(pipe, TinyDemandTask(), tmp_path, **SMALL)


def test_a_source_that_the_pipeline_lacks_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`source` must be one of \['nnit'\], .* received 'nested'"):
        search(tiny_pipeline(), TinyDemandTask(), tmp_path, source="nested", **SMALL)


@pytest.mark.parametrize("name", ["digits", "mnist", *ROBOT_TASKS])
def test_a_search_plans_less_for_tasks_with_slow_episodes(name):
    planned = SearchPlan(6, 8, (10, 40), 4, 150) if name in ROBOT_TASKS else SearchPlan(8, 8, (25, 100), 4, None)
    assert SearchPlan.for_task(get_task(name)) == planned


def test_a_search_with_slow_episodes_takes_1860_of_them(pipe, tmp_path):
    class SlowTask(TinyDemandTask):
        has_slow_episodes = True

    result = search(pipe, SlowTask(), tmp_path, num_inference_steps=1, progress_bar=False)
    assert sum(s.num_episodes for c in result.candidates for s in c.screenings) == 960
    assert sum(c.confirmation.num_episodes for c in result.finalists) == 900


def test_the_saved_search_equals_its_result(finished):
    result, _ = finished
    saved = json.loads((result.output_dir / "search.json").read_text())
    assert saved["result"] == json.loads(json.dumps(result.to_dict()))
    assert [Candidate.from_dict(c) for c in saved["candidates"]] == result.candidates
    winner = MLP.from_pretrained(result.output_dir / "winner")
    assert torch.equal(winner(torch.ones(2, 5)), result.network(result.winner)(torch.ones(2, 5)))
    assert winner.architecture == result.winner.architecture


@pytest.mark.parametrize("num_calls", NUM_CALLS_THAT_INTERRUPT)
def test_an_interrupted_search_resumes_and_finds_the_same_result(pipe, finished, tmp_path, num_calls):
    interrupted = TinyDemandTask(interrupt_at=num_calls)
    with pytest.raises(KeyboardInterrupt):
        search(pipe, interrupted, tmp_path, **SMALL)
    task = TinyDemandTask()
    result = search(pipe, task, tmp_path, **SMALL)
    assert_same(found(result), found(finished[0]))
    assert len(task.calls) < len(finished[1].calls) or num_calls == 0


def test_a_search_interrupted_during_generation_resumes_and_finds_the_same_result(finished, tmp_path):
    pipe = tiny_pipeline(ghn=True)

    def interrupt(pipe, step, timestep, tensors):
        raise KeyboardInterrupt

    calls = []

    class Interrupted(type(pipe)):
        def __call__(self, *args, **kwargs):
            calls.append(kwargs)
            return super().__call__(*args, **kwargs, callback_on_step_end=interrupt if len(calls) == 3 else None)

    pipe.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        search(pipe, TinyDemandTask(), tmp_path, **SMALL)
    assert len(list((tmp_path / "networks").iterdir())) == 6
    assert_same(found(search(pipe, TinyDemandTask(), tmp_path, **SMALL)), found(finished[0]))
    assert len(calls) == 5


def test_another_target_is_answered_from_saved_results(finished, pipe):
    result, _ = finished
    task = TinyDemandTask()
    easy = search(pipe, task, result.output_dir, target=0.5, **SMALL)
    strict = search(pipe, task, result.output_dir, target=0.99, **SMALL)
    same = search(pipe, task, result.output_dir, **SMALL)
    assert easy.winner.num_parameters < same.winner.num_parameters
    assert strict.winner is None
    assert same.winner.name == result.winner.name
    assert task.calls == []


def test_a_search_without_winner_removes_the_folder_of_an_earlier_winner(pipe, tmp_path):
    result = search(pipe, TinyDemandTask(), tmp_path, max_parameters=120, target=0.2, **SMALL)
    assert (tmp_path / "winner").exists() and result.winner is not None
    result = search(pipe, TinyDemandTask(), tmp_path, max_parameters=120, **SMALL)
    assert not (tmp_path / "winner").exists() and result.winner is None
    assert max(c.num_parameters for c in result.candidates) <= 120


def test_it_runs_on_labelled_data(pipe, tmp_path):
    settings = {**SMALL, "screen_episodes": (20, 60)}
    result = search(pipe, TinyDataTask(), tmp_path, target=0.1, **settings)
    assert [c.confirmation.num_episodes for c in result.finalists] == [120] * 4
    expected = evaluate([result.network(c) for c in result.finalists], TinyDataTask())
    assert [c.confirmation for c in result.finalists] == expected


@pytest.mark.parametrize("max_parameters", [None, 100])
def test_every_architecture_is_in_exactly_one_band(pipe, max_parameters):
    bands = parameter_bands(pipe, 5, max_parameters)
    for depth in range(1, MAX_DEPTH + 1):
        for width in range(MIN_WIDTH, MAX_WIDTH + 1):
            count = MLPArchitecture(5, (width,) * depth, 3).num_parameters
            holding = [band for band in bands if band[0] <= count <= band[1]]
            assert len(holding) == (max_parameters is None or count <= max_parameters)


def test_a_band_without_architecture_is_left_out(pipe):
    assert len(parameter_bands(pipe, 40, 60)) < 40


def test_networks_over_the_latency_budget_are_dropped(pipe, tmp_path):
    with pytest.raises(ValueError, match=r"`max_latency_us` must be \d+\.\d or more.*but received 0.001"):
        search(pipe, TinyDemandTask(), tmp_path / "none", max_latency_us=0.001, **SMALL)
    result = search(pipe, TinyDemandTask(), tmp_path / "all", max_latency_us=1e6, **SMALL)
    limit = sorted(c.latency_us for c in result.candidates)[6]
    path = tmp_path / "all" / "search.json"
    saved = json.loads(path.read_text())
    saved["settings"]["max_latency_us"] = limit
    for c in saved["candidates"]:
        c.update(screenings=[], confirmation=None)
    path.write_text(json.dumps(saved))
    result = search(pipe, TinyDemandTask(), tmp_path / "all", max_latency_us=limit, **SMALL)
    assert all(bool(c.screenings) == (c.latency_us <= limit) for c in result.candidates)


def test_the_lower_bound_determines_the_winner_and_fronts_hold_undominated_networks():
    small, lucky = candidate([4], 200, name="small"), candidate([5], 385, name="lucky", latency_us=3.0)
    sure, wasted = candidate([8], 392, name="sure", latency_us=2.0), candidate([12], 390, name="wasted")
    result = SearchResult(None, 0.95, [wasted, sure, lucky, small])
    assert lucky.confirmation.score > 0.95 > lucky.confirmation.confidence_interval[0]
    assert result.winner is sure
    assert result.front == [small, lucky, sure]
    assert result.latency_front == [wasted, sure]
    assert SearchResult(None, 0.99, [wasted, sure, lucky, small]).winner is None


@pytest.mark.parametrize(("target", "needed"), [(0.5, 4), (0.95, 73), (0.99, 381)])
def test_episodes_needed_is_the_minimum_that_can_confirm_a_target(target, needed):
    assert episodes_needed(target) == needed


def test_table_and_plot_show_every_finalist(finished, tmp_path):
    result, _ = finished
    table = search_table(result)
    rows = table.splitlines()[2:]
    assert len(rows) == len(result.finalists)
    assert [row for row in rows if "winner" in row] == [row for row in rows if f"| {result.winner.name} " in row]
    plot_search(result, tmp_path / "front.png")
    with Image.open(tmp_path / "front.png") as picture:
        assert picture.size == (1440, 640) and len(picture.convert("RGB").getcolors(1_000_000)) > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 1.0}, "`target` must lie between 0 and 1, both exclusive, but received 1.0"),
        ({"num_bands": 0}, "`num_bands` must be 1 or more, but received 0"),
        ({"reduction": 0}, "`reduction` must be 1 or more, but received 0"),
        ({"screen_episodes": (5, 0)}, r"`screen_episodes\[1\]` must be 1 or more, but received 0"),
        ({"num_confirm_episodes": 72}, "`num_confirm_episodes` must be 73 or more, .* but received 72"),
        ({"max_parameters": 5}, "`max_parameters` must leave an architecture to generate, .*5"),
    ],
)
def test_invalid_arguments_are_errors_that_name_them(pipe, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        search(pipe, TinyDemandTask(), tmp_path / "search", **{**SMALL, **arguments})
    assert not (tmp_path / "search").exists()


def test_a_folder_of_other_files_or_another_search_is_not_changed(finished, pipe, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="`output_dir` must be a new folder .* holds other files"):
        search(pipe, TinyDemandTask(), tmp_path, **SMALL)
    before = (finished[0].output_dir / "search.json").read_bytes()
    with pytest.raises(ValueError, match=r"same settings, but received .* differs in seed \(0 there\)"):
        search(pipe, TinyDemandTask(), finished[0].output_dir, seed=1, **SMALL)
    assert (finished[0].output_dir / "search.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: saved["settings"].pop("sampler_sha256"), r"does not record `sampler_sha256`"),
        (lambda saved: saved.update(settings=[]), r"must hold the `settings` of a search, but holds \[\]"),
        (lambda saved: saved.pop("candidates"), r"a search as this package writes it: KeyError: 'candidates'"),
        (lambda saved: saved["candidates"][0].update(name="../.."), r"search.json must name folders beside it"),
    ],
)
def test_a_state_that_is_not_of_this_search_is_refused_in_one_line(finished, pipe, tmp_path, change, message):
    saved = json.loads((finished[0].output_dir / "search.json").read_text())
    change(saved)
    (tmp_path / "search.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=message) as raised:
        search(pipe, TinyDemandTask(), tmp_path, **SMALL)
    assert "\n" not in str(raised.value)


def test_a_task_of_other_sizes_is_refused(pipe, tmp_path):
    class Wide(TinyDataTask):
        in_features = 7

    with pytest.raises(ValueError, match="`task` must have 5 inputs and 3 outputs, .* with 7 and 3"):
        search(pipe, Wide(), tmp_path / "search", **SMALL)


def test_screening_takes_no_more_samples_than_a_split_has(pipe, tmp_path):
    class Few(TinyDataTask):
        def load(self, split):
            inputs, labels = super().load(split)
            return inputs[:40], labels[:40]

    result = search(pipe, Few(), tmp_path / "few", target=0.01, **SMALL)
    assert [screening.num_episodes for screening in result.finalists[0].screenings] == [25, 40]
