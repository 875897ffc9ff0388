"""The scripted experts of Meta-World, measured with and without noise, task by task."""

import json

from metaworld_experts import Arguments, main, summary

from nnit_diffusers.intervals import wilson_interval
from nnit_diffusers.tasks.simulation.rollouts import Episode
from nnit_diffusers.tasks.simulation.seeds import episode_seeds


def test_a_task_is_measured_once_and_others_are_added(tmp_path, capsys):
    path = tmp_path / "result.json"
    main(Arguments(str(path), ("reach-v3",), num_episodes=3))
    first = json.loads(path.read_text())["environments"]["reach-v3"]
    assert first["undisturbed"]["within_200_steps"]["num_successes"] == 3
    assert first["undisturbed"]["median_steps_to_success"] < first["disturbed"]["median_steps_to_success"] < 200
    assert first["settings"]["num_episodes"] == 3 and first["provenance"]["command"]
    main(Arguments(str(path), ("reach-v3", "drawer-open-v3"), num_episodes=1))
    both = json.loads(path.read_text())["environments"]
    assert list(both) == ["drawer-open-v3", "reach-v3"] and both["reach-v3"] == first
    assert "drawer-open-v3: undisturbed 1 within 200 steps" in capsys.readouterr().out


def test_rates_count_the_steps_to_the_first_success():
    seeds = episode_seeds("validation", 0, 4)
    steps = [(200, True), (201, True), (500, True), (500, False)]
    episodes = [
        Episode(seed, is_success, observations=[None] * number)
        for seed, (number, is_success) in zip(seeds, steps, strict=True)
    ]
    counted = summary(episodes)
    assert counted["within_200_steps"]["num_successes"] == 1
    assert counted["within_500_steps"] == {"num_successes": 3, "confidence_interval": wilson_interval(3, 4)}
    assert counted["median_steps_to_success"] == 201 and counted["failed_seeds"] == [seeds[3]]
