"""One bar for a run of several stages, and its estimate of the time left."""

import io

import pytest
from diffusers.utils import logging

from nnit_diffusers.training import progress
from nnit_diffusers.training.progress import RunProgress, Stage, only_this_bar


@pytest.fixture
def clock(monkeypatch):
    """A clock that only a test moves."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def run(stages, **kwargs):
    return RunProgress([Stage(*stage) for stage in stages], is_shown=False, **kwargs)


def work(bar, clock, name, units, seconds, start=0):
    """Units of a stage, each as long as the others; `start` were done by an earlier process."""
    bar.begin(name)
    for unit in range(start + 1, start + units + 1):
        clock[0] += seconds
        bar.update(name, unit)


def test_before_anything_is_measured_the_estimate_is_the_guess():
    assert run([("a", 10, 2.0), ("b", 5, 4.0)]).seconds_left() == 40


def test_a_measured_stage_counts_as_measured_and_scales_the_guesses_of_others(clock):
    bar = run([("a", 10, 2.0), ("b", 5, 4.0)])
    work(bar, clock, "a", 5, seconds=1.0)
    # half as long as guessed, and so are the units of the next stage
    assert bar.seconds_left() == pytest.approx(5 * 1.0 + 5 * 4.0 / 2)
    work(bar, clock, "a", 5, seconds=1.0, start=5)
    bar.finish("a")
    assert bar.seconds_left() == pytest.approx(10)
    work(bar, clock, "b", 5, seconds=3.0)
    bar.finish("b")
    assert bar.seconds_left() == 0


def test_what_an_earlier_process_did_is_done_but_not_measured(clock):
    bar = run([("a", 100, 2.0)])
    work(bar, clock, "a", 10, seconds=1.0, start=80)
    # not 90 units in 10 seconds
    assert bar.seconds_left() == pytest.approx(10 * 1.0)


def test_units_that_come_together_count_each_and_old_ones_are_not_measured(clock):
    bar = run([("episodes", 300, 9.0)])
    bar.begin("episodes")
    bar.update("episodes", 100, 0)
    clock[0] += 50
    bar.update("episodes", 150, 50)
    assert bar.seconds_left() == pytest.approx(150 * 1.0)


def test_the_bar_names_the_stage_and_the_time_left(clock):
    bar = run([("hypernetwork", 1200, 1.0)])
    work(bar, clock, "hypernetwork", 600, seconds=1.0)
    assert bar.description == "about 10 min left: hypernetwork, 600 of 1,200"


@pytest.mark.parametrize(("seconds", "words"), [(45, "45 s"), (600, "10 min"), (4800, "80 min"), (7500, "2 h 5 min")])
def test_durations_in_words(seconds, words):
    assert progress._words(seconds) == words


@pytest.mark.parametrize("were_shown", [True, False])
def test_other_bars_are_hidden_meanwhile_and_are_afterwards_as_before(were_shown):
    (logging.enable_progress_bar if were_shown else logging.disable_progress_bar)()
    try:
        with pytest.raises(KeyboardInterrupt), only_this_bar():
            assert not logging.is_progress_bar_enabled()
            raise KeyboardInterrupt
        assert logging.is_progress_bar_enabled() == were_shown
    finally:
        logging.enable_progress_bar()


@pytest.mark.parametrize(("is_terminal", "drawn"), [(True, 40), (False, 3)])
def test_a_file_gets_a_line_every_half_minute_and_a_terminal_every_step(clock, monkeypatch, is_terminal, drawn):
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal
    monkeypatch.setattr(progress.sys, "stderr", stream)
    clock[0] = 1000.0
    bar = RunProgress([Stage("tuning", 40, 2.0)])
    work(bar, clock, "tuning", 40, seconds=2.0)
    bar.close()
    shown = {unit for unit in range(1, 41) if f"tuning, {unit} of 40" in stream.getvalue()}
    assert drawn - 1 <= len(shown) <= drawn
