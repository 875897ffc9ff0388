"""How the networks of an evaluation were scored, in words, for model cards."""

from __future__ import annotations

from typing import Any

from .formats import at_end, best_of, num_steps, samples_of
from .report import Report


REGION_NAMES = {
    "seen": "seen in training",
    "held_out_combinations": "held-out combinations",
    "held_out_widths": "held-out widths",
    "deeper": "deeper",
    "wider": "wider",
    "narrower": "narrower",
    "shallower": "shallower",
}


def protocol(report: Report) -> str:
    """How the networks of the tables were scored, on which data, and which parts are not complete, as a list."""
    settings = report["settings"]
    samples = samples_of(settings)
    lines = [
        *_meaning_of(settings),
        f"Means are over all generated networks, with {num_steps(settings['num_inference_steps'])}.",
        f"Each region has {settings['num_architectures']} architectures with {settings['num_networks']} networks each "
        f"(seed {settings['seed']}).",
    ]

    # regions with fewer architectures
    unfinished = {
        REGION_NAMES[region]: len(part["architectures"])
        for region, part in report.get("regions", {}).items()
        if len(part["architectures"]) < settings["num_architectures"]
    }
    if unfinished:
        numbers = ", ".join(f"{name} ({number})" for name, number in unfinished.items())
        lines.append(f"Regions with fewer architectures, whose means are rough estimates: {numbers}.")

    # data, and what counts as a success
    if settings["num_final_episodes"] is None:
        lines.append(
            f"Every network is scored on the same {settings['num_test_episodes']} test {samples}, which neither "
            "training nor the choice of the best networks used."
        )
    else:
        screened = settings["num_episodes"] or settings["num_test_episodes"]
        lines += [
            f"Regions, and architectures chosen by the model: every network is scored in the same "
            f"{screened} validation {samples}, and the {best_of(settings)} by that score in the same "
            f"{settings['num_final_episodes']} test {samples}.",
            f"All other tables: every network is scored in the same {screened} test {samples}.",
            f"No training run used these {samples}.",
        ]
    if has_success_at_end(report.get("regions", {})):
        lines.append(
            "An episode is a success if the task is solved in any of its steps. Success at episode end is the share "
            "of episodes whose last step is a success."
        )
    lines.append(f"Intervals describe how the mean varies over architectures or networks, not over {samples}.")
    return "\n".join(f"- {line}" for line in lines)


def _meaning_of(settings: dict[str, Any]) -> list[str]:
    """What the numbers are, where they are no shares of successes."""
    if settings.get("is_share", True):
        return []
    return [
        f"Scores are {settings['metric']}, in percent: the share of the target's variance that predictions explain. "
        "100% is perfect, and 0% is as good as the mean of the targets."
    ]


def has_success_at_end(section: dict[str, Any]) -> bool:
    """Whether the best networks' success at episode end was measured, which tasks judged by their return lack."""
    return any(at_end(part["nnit"].get("selected")) != "-" for part in section.values())
