"""One progress bar for a run of several stages, with an estimate of the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from diffusers.utils import logging
from tqdm.auto import tqdm


# Seconds between two drawings of the bar, and between two where it goes to a file, which keeps every one of them.
_TERMINAL_INTERVAL, _FILE_INTERVAL = 0.1, 30.0


@dataclass
class Stage:
    """A stage of a run.

    Parameters:
        name (`str`): What the bar calls it.
        num_units (`int`): Steps, episodes or parts.
        seconds_per_unit (`float`): A guess, until the stage has been measured.
        num_done (`int`, defaults to 0): Units done.
        num_measured (`int`, defaults to 0): Units that this process has done.
        seconds (`float`, defaults to 0): Time that this process has spent in it.
    """

    name: str
    num_units: int
    seconds_per_unit: float
    num_done: int = 0
    num_measured: int = 0
    seconds: float = 0.0

    @property
    def measured(self) -> float | None:
        """Seconds per unit as measured, or `None` if too little was done."""
        return self.seconds / self.num_measured if self.num_measured >= min(3, self.num_units) > 0 else None


class RunProgress:
    """A bar over all stages, in seconds as far as they are known.

    Guesses of stages that are still to come are scaled by how far the guesses of the measured ones were off.

    Parameters:
        stages (`list[Stage]`): The stages, in order.
        is_shown (`bool`, defaults to `True`): Show the bar.
    """

    def __init__(self, stages: list[Stage], is_shown: bool = True) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self._last: tuple[str, float] | None = None
        self._bar = tqdm(
            total=1.0, disable=not is_shown, bar_format="{percentage:3.0f}%|{bar:20}| {elapsed}, {desc}", leave=True
        )
        # the bar of a notebook is a widget, and replaces itself
        is_replaced = sys.stderr.isatty() or hasattr(self._bar, "container")
        self._interval = _TERMINAL_INTERVAL if is_replaced else _FILE_INTERVAL
        self._drawn = 0.0

    def begin(self, name: str) -> None:
        """A stage begins."""
        self._last = (name, time.perf_counter())
        self.show()

    def update(self, name: str, num_done: int, num_new: int = 1) -> None:
        """A stage has done `num_done` units in all, of which `num_new` since the last call, by this process."""
        stage, now = self.stages[name], time.perf_counter()
        if num_new and self._last is not None and self._last[0] == name:
            stage.num_measured += num_new
            stage.seconds += now - self._last[1]
        stage.num_done, self._last = num_done, (name, now)
        if now - self._drawn >= self._interval:
            self.show()

    def finish(self, name: str) -> None:
        """A stage is complete, if the run has it."""
        if name in self.stages:
            self.stages[name].num_done = self.stages[name].num_units
            self.show()

    def seconds_left(self) -> float:
        """Estimate of the time left."""
        known = [(stage.measured, stage.seconds_per_unit) for stage in self.stages.values() if stage.measured]
        scale = sum(measured / guess for measured, guess in known if measured) / len(known) if known else 1.0
        return sum(
            (stage.num_units - stage.num_done) * (stage.measured or scale * stage.seconds_per_unit)
            for stage in self.stages.values()
        )

    def show(self) -> None:
        """Draws the bar, whose length is the fraction of the estimated time."""
        left = self.seconds_left()
        done = sum(stage.num_done * (stage.measured or stage.seconds_per_unit) for stage in self.stages.values())
        self._bar.total, self._bar.n = max(done + left, 1e-9), done
        self._bar.set_description_str(self.description, refresh=False)
        self._bar.refresh()
        self._drawn = time.perf_counter()

    @property
    def description(self) -> str:
        """The time left, the stage and its units."""
        name = self._last[0] if self._last else next(iter(self.stages))
        stage = self.stages[name]
        return f"about {_words(self.seconds_left())} left: {name}, {stage.num_done:,} of {stage.num_units:,}"

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()


def _words(seconds: float) -> str:
    """A duration in words: `45 s`, `12 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def only_this_bar() -> Iterator[None]:
    """Hides the bars of everything that is called, so that one bar remains."""
    were_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_shown:
            logging.enable_progress_bar()
