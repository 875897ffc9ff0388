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
    if what == "pid":
        return os.getpid()
    return number**2
