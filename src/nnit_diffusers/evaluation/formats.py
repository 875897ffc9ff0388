"""Numbers of an evaluation in words, for the tables of model cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


# Column of the best networks' `success_at_end`, which only tasks of rollouts report.
AT_END = "Success at episode end"
# Columns of returns, which only tasks with a return report: of all networks, and as a part of the teacher's.
RETURN, OF_TEACHER = "Mean return", "Return, part of the teacher's"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}%"


def with_interval(summary: Mapping[str, Any]) -> str:
    if "interval" not in summary:
        return percent(summary["mean"])
    low, high = summary["interval"]
    return f"{percent(summary['mean'])} ({100 * low:.1f} to {100 * high:.1f})"


def points(difference: dict[str, Any]) -> str:
    """A difference in percentage points, with its interval if it has one."""
    mean = f"{100 * difference['mean']:+.1f}"
    if "interval" not in difference:
        return mean
    low, high = difference["interval"]
    return f"{mean} ({100 * low:+.1f} to {100 * high:+.1f})"


def num_steps(number: int) -> str:
    """A number of denoising steps, in words."""
    return "1 denoising step" if number == 1 else f"{number} denoising steps"


def architecture_name(hidden_sizes: Sequence[int | None]) -> str:
    return "[" + ", ".join(map(str, hidden_sizes)) + "]"


def best_of(settings: dict[str, Any]) -> str:
    """Name of the networks chosen on validation data: best 10 of 100."""
    return f"best {settings['num_selected']} of {settings['num_networks']}"


def interval_note(unit: str, settings: dict[str, Any]) -> str:
    """The sentence that names the method of the intervals in a table."""
    if not settings.get("is_share", True):
        return f"Brackets: 95% Student's t interval over {unit}."
    return (
        f"Brackets: 95% Student's t interval over {unit}, never narrower than Wilson's interval over all "
        f"{samples_of(settings)}."
    )


def samples_of(settings: dict[str, Any]) -> str:
    """What networks are scored in: samples of a data set, or episodes."""
    return f"{settings['sample_name']}s"


def mean_return(summary: Mapping[str, Any]) -> str:
    """Mean return with its interval, if it was measured."""
    if "mean_return" not in summary:
        return "-"
    text = f"{summary['mean_return']:,.1f}"
    if "mean_return_interval" not in summary:
        return text
    low, high = summary["mean_return_interval"]
    return f"{text} ({low:,.1f} to {high:,.1f})"


def of_teacher(summary: Mapping[str, Any]) -> str:
    """Mean return as a part of the teacher's, with its interval, if it was measured."""
    if "return_of_teacher" not in summary:
        return "-"
    interval = summary.get("return_of_teacher_interval")
    return with_interval({"mean": summary["return_of_teacher"], **({"interval": interval} if interval else {})})


def at_end(selected: dict[str, Any] | None) -> str:
    """Share of the test episodes of the best networks whose last step is a success, if it was measured."""
    return percent(selected["success_at_end"]) if selected and "success_at_end" in selected else "-"
