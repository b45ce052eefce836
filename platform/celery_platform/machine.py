"""
Know what this process may use of the machine: its CPUs, its memory.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["limit_memory", "usable_cpus"]

_CGROUP = Path("/sys/fs/cgroup")


def usable_cpus(cgroup: Path = _CGROUP) -> int:
    """
    Return how many CPUs this process may keep busy: those it may run on, or fewer when its container has a quota.

    Part of a CPU counts as one.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    # The second version of control groups has one file of two words, the first has two files.
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            words = [word for name in files for word in (cgroup / name).read_text(encoding="ascii").split()]
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None


def limit_memory(mebibytes: int) -> None:
    """
    Let this process have no more than so much memory of its own: past it Python raises `MemoryError`.

    What it shares with its parent counts, mapped files do not.
    """
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
