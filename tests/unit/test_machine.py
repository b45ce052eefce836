"""
What a process may use of its machine.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from celery_platform.machine import usable_cpus

CPUS = len(os.sched_getaffinity(0))


def folder(path, files):
    for name, text in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text)
    return path


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, CPUS),
        ({"cpu.max": "max 100000\n"}, CPUS),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "110000 100000\n"}, min(2, CPUS)),
        ({"cpu.max": "6400000 100000\n"}, CPUS),
        ({"cpu.max": "nonsense"}, CPUS),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, CPUS),
    ],
)
def test_the_quota_of_a_container_bounds_its_cpus(tmp_path, files, cpus):
    assert usable_cpus(folder(tmp_path, files)) == cpus


def test_a_process_over_its_memory_gets_an_error_and_goes_on():
    text = """
from celery_platform.machine import limit_memory
limit_memory(200)
try:
    bytearray(400 * 2**20)
except MemoryError:
    print(len(bytearray(50 * 2**20)))
"""
    told = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.strip() == str(50 * 2**20)
