"""What this process may use of its machine: CPUs and memory, also within a container, and so how many workers fit.

Linux writes the limits of a container into control files, of cgroup v2 or v1
(https://docs.kernel.org/admin-guide/cgroup-v2.html). A group's limit holds for all groups below it.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


WORKER_BYTES = 560 * 2**20
"""Memory of one worker process with a robot simulator."""


def default_num_workers(root: Path = Path("/")) -> int:
    """The number of worker processes by default: one for each CPU, and no more than fit into memory; at least 1.

    CPUs are those that this process may use, by its affinity and by the quota of its container. Memory is that of the
    container or the machine, less what this process holds.

    Parameters:
        root (`Path`, defaults to `/`): Folder that has `proc` and `sys`.
    """
    num_workers = _num_cpus()
    quota, memory = cpu_quota(root), memory_limit(root)
    if quota is not None:
        num_workers = min(num_workers, math.ceil(quota))
    if memory is not None:
        num_workers = min(num_workers, (memory - _own_memory(root)) // WORKER_BYTES)
    return max(1, num_workers)


def _num_cpus() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13; it also heeds PYTHON_CPU_COUNT
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The CPUs that the container of this process may use, such as 1.5; `None` if it sets no limit."""
    quotas = []
    for folder in _control_groups(root, "cpu"):
        v1 = f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}"
        for text in (_text(folder / "cpu.max"), v1):
            # "max 100000" in v2 and "-1 100000" in v1 are no limit
            with contextlib.suppress(ValueError, ZeroDivisionError):
                quota, period = map(int, text.split())
                quotas.append(quota / period)
    return min((quota for quota in quotas if quota > 0), default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may use at most: of its container, or of the machine; `None` if unknown."""
    limits = []
    for folder in _control_groups(root, "memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            with contextlib.suppress(ValueError):  # "max", or no such file
                limits.append(int(_text(folder / name)))
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            limits.append(int(line.split()[1]) * 1024)
    return min((limit for limit in limits if limit > 0), default=None)


def _own_memory(root: Path) -> int:
    """Bytes of memory that this process holds; 0 if unknown."""
    for line in _text(root / "proc/self/status").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the group of this process and of those around it, for v2 and v1; some do not exist.

    A container usually sees its own group as the outermost one, but `/proc/self/cgroup` may name it by its place in
    the host.
    """
    mount = root / "sys/fs/cgroup"
    yield from (mount, mount / controller)
    for line in _text(root / "proc/self/cgroup").splitlines():
        # hierarchy:controllers:path, such as "0::/user.slice" in v2 and "4:cpu,cpuacct:/docker/1f0c" in v1
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = mount / controller if controllers else mount
        group = PurePosixPath(path.lstrip("/"))
        yield from (base / part for part in (group, *group.parents))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
