"""Jobs for a pool of workers that tells how they die. Light, for every worker imports it."""

import os
import time
from pathlib import Path


def make_worker():
    return run


def make_no_worker():
    raise OSError("no simulator here")


def run(job):
    """`(what, number, folder)`; jobs that go wrong do so the first time alone, which a file in `folder` remembers."""
    what, number, folder = job
    marker = Path(folder) / f"{what}-{number}"
    is_first_time = not marker.exists()
    marker.touch()
    if what == "raise":
        raise ValueError(f"job {number} is wrong")
    if what == "always-die" or (what == "die" and is_first_time):
        os._exit(3)
    if what == "hang" and is_first_time:
        time.sleep(1000)
    if what == "pause":
        time.sleep(0.02)
    if what == "pid":
        return os.getpid()
    return number**2


class Runner:
    """Runs the same jobs, and leaves a file for each time that it is made or closed."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.note("made")

    def note(self, what):
        (self.folder / f"{what}-{time.time_ns()}-{os.getpid()}").touch()

    def __call__(self, job):
        return run(job)

    def close(self):
        self.note("closed")
