"""
Counts that outlive the processes that made them.
"""

from __future__ import annotations

import os
import signal

import pytest

from celery_platform.instrumentation.exposition import counted, written
from celery_platform.instrumentation.tally import BUCKETS, Tally


@pytest.fixture
def tally():
    return Tally(slots=8, size=1 << 14)


def child(work):
    """
    Run *work* in a process that then kills itself with SIGKILL; wait for its end.
    """
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def test_the_counts_of_killed_children_add_up(tally):
    tally.add(("calls", "a"))
    for _ in range(20):
        child(lambda: tally.add(("calls", "a"), 2))
    assert tally.totals()["calls", "a"] == [41]


def test_a_child_takes_over_the_slot_of_a_dead_one(tally):
    for number in range(20):
        child(lambda n=number: tally.add(("calls", str(n))))
    assert len(tally.totals()) == 20
    assert tally.dropped == 0
    assert sum(1 for slot in range(8) if tally._lengths[slot * tally._size // 8]) == 1


def test_children_of_one_moment_count_apart(tally):
    reading, writing = os.pipe()
    born = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            tally.add(("calls",))
            os.write(writing, b".")
            signal.pause()
            os._exit(0)
        born.append(pid)
    for _ in born:
        os.read(reading, 1)
    assert tally.totals()["calls",] == [4]
    for pid in born:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_histogram_keeps_buckets_and_sum(tally):
    for value in (0.001, 0.3, 0.3, 100_000):
        tally.observe(("seconds", "a"), value)
    values = tally.totals()["seconds", "a"]
    assert values[0] == 1
    assert values[BUCKETS.index(0.5)] == 2
    assert values[-2] == 1
    assert values[-1] == pytest.approx(100_000.601)


def test_a_full_slot_drops_counts_and_says_so():
    small = Tally(slots=2, size=256)
    for number in range(100):
        small.add(("calls", str(number)))
    assert small.dropped > 0
    assert len(small.totals()) + small.dropped == 100


def test_a_family_keeps_five_hundred_sets_of_labels(tally):
    big = Tally(slots=1, size=1 << 18)
    for number in range(600):
        big.add(("calls", str(number)))
    assert len(big.totals()) == 500
    assert big.dropped == 100


def test_what_prometheus_reads(tally):
    tally.add(("celery_task_succeeded", "tasks.add", "default"), 3)
    tally.observe(("celery_task_runtime", "tasks.add", 'odd "queue"'), 0.2)
    tally.add(("no_such_family", "x"))
    text = written(counted(tally)).decode()
    assert 'celery_task_succeeded_total{name="tasks.add",queue_name="default"} 3.0' in text
    assert 'celery_task_runtime_bucket{le="0.25",name="tasks.add",queue_name="odd \\"queue\\""} 1.0' in text
    assert 'celery_task_runtime_count{name="tasks.add",queue_name="odd \\"queue\\""} 1.0' in text
    assert "celery_platform_series_dropped_total 0.0" in text
    assert "no_such_family" not in text
