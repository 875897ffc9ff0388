import os

import pytest

from nnit_diffusers import containers
from nnit_diffusers.containers import WORKER_BYTES, cpu_quota, default_num_workers, memory_limit


GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes the files of a machine of 64 CPUs and 256 GiB, and those of a container on it."""
    monkeypatch.setattr(containers, "_num_cpus", lambda: 64)

    def write(files):
        usual = {
            "proc/meminfo": f"MemTotal:       {256 * 2**20} kB\nMemFree:        {2**20} kB\n",
            "proc/self/status": f"Name:\tpython\nVmRSS:\t  {2**20} kB\n",
        }
        for name, text in (usual | files).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


V2 = "sys/fs/cgroup/"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({V2 + "cpu.max": "200000 100000\n"}, 2.0),
        ({V2 + "cpu.max": "150000 100000\n"}, 1.5),
        ({V2 + "cpu.max": "max 100000\n"}, None),
        ({V2 + "cpu.max": ""}, None),
        ({V2 + "cpu.max": "garbage"}, None),
        ({V2 + "cpu.max": "100000 0"}, None),
        ({V2 + "cpu/cpu.cfs_quota_us": "50000\n", V2 + "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({V2 + "cpu/cpu.cfs_quota_us": "-1\n", V2 + "cpu/cpu.cfs_period_us": "100000\n"}, None),
        # a group of its own, within one that allows less: a service of systemd, and a job of Slurm
        (
            {
                "proc/self/cgroup": "0::/user.slice/job\n",
                V2 + "user.slice/job/cpu.max": "800000 100000\n",
                V2 + "user.slice/cpu.max": "400000 100000\n",
            },
            4.0,
        ),
        (
            {
                "proc/self/cgroup": "9:memory:/slurm/9\n4:cpu,cpuacct:/slurm/7\n0::/\n",
                V2 + "cpu/slurm/7/cpu.cfs_quota_us": "300000\n",
                V2 + "cpu/slurm/7/cpu.cfs_period_us": "100000\n",
                V2 + "cpu/slurm/9/cpu.cfs_quota_us": "100000\n",
                V2 + "cpu/slurm/9/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        # the path is that of the host, and the container sees its own group alone
        ({"proc/self/cgroup": "0::/docker/1f0c\n", V2 + "cpu.max": "200000 100000\n"}, 2.0),
        ({}, None),
    ],
)
def test_the_cpu_quota_of_a_container_is_read_from_its_control_files(machine, files, quota):
    assert cpu_quota(machine(files)) == quota


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({V2 + "memory.max": f"{4 * GIB}\n"}, 4 * GIB),
        ({V2 + "memory.max": f"{4 * GIB}\n", V2 + "memory.high": f"{3 * GIB}\n"}, 3 * GIB),
        ({V2 + "memory.max": "max\n"}, 256 * GIB),
        ({V2 + "memory/memory.limit_in_bytes": f"{2 * GIB}\n"}, 2 * GIB),
        # no limit in v1
        ({V2 + "memory/memory.limit_in_bytes": "9223372036854771712\n"}, 256 * GIB),
        ({"proc/self/cgroup": "0::/a/b\n", V2 + "a/memory.max": f"{GIB}\n", V2 + "a/b/memory.max": "max\n"}, GIB),
        ({"proc/meminfo": ""}, None),
    ],
)
def test_the_memory_of_a_container_or_of_the_machine_is_read(machine, files, limit):
    assert memory_limit(machine(files)) == limit


@pytest.mark.parametrize(
    ("files", "num_workers"),
    [
        ({}, 64),
        # two CPUs of 64
        ({V2 + "cpu.max": "200000 100000\n"}, 2),
        ({V2 + "cpu.max": "110000 100000\n"}, 2),
        ({V2 + "cpu.max": "10000 100000\n"}, 1),
        # this process holds 1 GiB, and each worker needs its own memory
        ({V2 + "memory.max": str(GIB + 5 * WORKER_BYTES)}, 5),
        ({V2 + "memory.max": str(GIB + 6 * WORKER_BYTES - 1)}, 5),
        ({V2 + "memory.max": str(GIB // 2)}, 1),
        ({V2 + "cpu.max": "200000 100000\n", V2 + "memory.max": str(GIB + 5 * WORKER_BYTES)}, 2),
        ({"proc/meminfo": "", "proc/self/status": ""}, 64),
    ],
)
def test_workers_fit_into_the_cpus_and_the_memory_of_a_container(machine, files, num_workers):
    assert default_num_workers(machine(files)) == num_workers


def test_the_cpus_are_those_of_the_affinity(monkeypatch, tmp_path):
    allowed = os.sched_getaffinity(0)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert default_num_workers(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert default_num_workers(tmp_path) == len(allowed)
    # Python 3.13 has a function that also heeds its options
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert default_num_workers(tmp_path) == 3


def test_this_machine_has_room_for_a_worker():
    assert 1 <= default_num_workers() <= os.cpu_count()
