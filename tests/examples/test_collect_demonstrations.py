import json

import pytest
from collect_demonstrations import Arguments, main
from safetensors.torch import load_file

from nnit_diffusers import get_task
from nnit_diffusers.tasks.maniskill import NoVulkanDeviceError, check_simulator


@pytest.fixture(scope="module", autouse=True)
def simulator():
    try:
        check_simulator()
    except (ImportError, NoVulkanDeviceError) as error:
        pytest.skip(str(error))


def arguments(folder, **changed):
    sizes = {"num_episodes": 5, "episodes_per_shard": 2, "num_workers": 2}
    return Arguments(output_dir=str(folder), task="pushcube", **{**sizes, **changed})


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("demonstrations-*"))}


def test_an_interrupted_collection_resumes_and_is_the_same_for_any_number_of_workers(tmp_path):
    main(arguments(tmp_path / "complete"))
    complete = shards(tmp_path / "complete")
    assert list(complete) == [f"demonstrations-0000{number}.safetensors" for number in range(3)]
    main(arguments(tmp_path / "resumed", num_workers=1))
    assert shards(tmp_path / "resumed") == complete
    (tmp_path / "resumed" / "demonstrations-00001.safetensors").unlink()
    untouched = (tmp_path / "resumed" / "demonstrations-00000.safetensors").stat().st_mtime_ns
    main(arguments(tmp_path / "resumed"))
    assert shards(tmp_path / "resumed") == complete
    assert (tmp_path / "resumed" / "demonstrations-00000.safetensors").stat().st_mtime_ns == untouched

    observations, actions = get_task("pushcube", data_dir=tmp_path / "complete").demonstrations
    assert (observations.shape, actions.shape) == ((250, 35), (250, 8))
    seeds = [load_file(tmp_path / "complete" / name)["episode_seeds"].tolist() for name in complete]
    assert seeds == [[0, 1], [2, 3], [4]]
    record = json.loads((tmp_path / "complete" / "collection.json").read_text())
    assert record["collection"] == {"task": "pushcube", "seed": 0, "num_episodes": 5, "episodes_per_shard": 2}
    assert record["command"] and record["git_commit"]

    with pytest.raises(ValueError, match="`output_dir` must be a new folder, or one of the same collection"):
        main(arguments(tmp_path / "complete", seed=1))


def test_the_expert_is_measured_on_test_episodes(tmp_path):
    main(arguments(tmp_path, num_episodes=3, evaluate_only=True))
    report = json.loads((tmp_path / "expert.json").read_text())
    assert (report["env_id"], report["split"], report["failed_seeds"]) == ("PushCube-v1", "test", [])
    assert report["success_once"]["num_successes"] == report["success_at_end"]["num_successes"] == 3
    assert report["success_once"]["confidence_interval"][0] == pytest.approx(0.4385, abs=1e-3)


def test_other_tasks_have_no_expert(tmp_path):
    with pytest.raises(ValueError, match="`task` must be a robot task, .*, but received 'digits'"):
        main(Arguments(output_dir=str(tmp_path), task="digits"))
