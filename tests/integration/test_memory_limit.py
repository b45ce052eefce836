"""
A task that wants more memory than its process may have fails alone.
"""

from __future__ import annotations

import json

import pytest

from tests.deployment import Deployment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TASKS = """
from celery_platform import platform_task

@platform_task
def grow(mebibytes: int) -> int:
    return len(bytearray(mebibytes * 2**20)) // 2**20
"""


@pytest.fixture
def deployment(tmp_path, redis_url):
    deployment = Deployment(tmp_path, PLATFORM_BROKER_URL=redis_url, PLATFORM_MEMORY_LIMIT="400")
    deployment.write("tasks/__init__.py", TASKS)
    yield deployment
    deployment.stop()


@pytest.mark.parametrize("pool", ["prefork", "supervised"])
def test_a_greedy_task_is_a_dead_letter_oom_and_its_process_runs_the_next(deployment, pool):
    worker = deployment.worker("-c", "1", "-P", pool)
    told = deployment.python(
        "from tasks import grow\n"
        "greedy, modest = grow.delay(900), grow.delay(30)\n"
        "print(modest.get(timeout=60), type(greedy.get(timeout=60, propagate=False)).__name__)"
    )
    assert told.stdout.split() == ["30", "MemoryError"], told.stderr
    (letter,) = json.loads(deployment.celery("dead", "list", "--json").stdout)
    assert letter["reason"] == "oom"
    assert worker.output().count("exited with") == 0


@pytest.mark.parametrize("words", [("-P", "threads"), ("-P", "solo")])
def test_a_pool_without_processes_of_its_own_is_refused_with_the_remedy(deployment, words):
    worker = deployment.celery("worker", *words, timeout=60)
    assert worker.returncode != 0
    assert "PLATFORM_MEMORY_LIMIT is 400" in worker.stderr
    assert "Choose --pool=prefork, or leave it out" in worker.stderr
