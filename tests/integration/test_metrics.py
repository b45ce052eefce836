"""
What a worker counts is what happened, whatever became of its processes.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import urllib.request
from collections import Counter

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from celery_platform.instrumentation.families import FAMILIES
from tests.deployment import Deployment
from tests.servers import free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CALLS = int(os.environ.get("N", "2000"))
TASKS = """
import os, time
import redis
from celery_platform import Backoff, Discard, Snooze, current_call, platform_task

ledger = redis.Redis.from_url(os.environ["LEDGER_URL"])


@platform_task(retry=Backoff(on=ValueError, attempts=3, first=0.02, floor=0.01, ceiling=0.02))
def work(number: int) -> int:
    time.sleep(0.002)
    kind, call = number % 10, current_call()
    if kind == 1 and call.attempt == 1:
        raise ValueError("once")
    if kind == 2 and call.deferrals == 0:
        raise Snooze(0.05)
    if kind == 3:
        raise KeyError(number)
    if kind == 4:
        raise Discard("unwanted")
    return number
"""
SEND = """
from tasks import work
for number in range({calls}):
    work.apply_async((number,), task_id=f"call-{{number}}")
"""


def scraped(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def sums(text, *labels):
    found = Counter()
    for family in parsed(text):
        for sample in family.samples:
            found[(sample.name, *(sample.labels.get(label, "") for label in labels))] += sample.value
    return found


def test_counts_equal_a_ledger_after_recycled_and_killed_processes(tmp_path, redis_url):
    port = free_port()
    team = Deployment(tmp_path, PLATFORM_BROKER_URL=redis_url, LEDGER_URL=redis_url, PLATFORM_METRICS_PORT=str(port))
    team.write("tasks/__init__.py", TASKS)
    try:
        worker = team.worker("-P", "prefork", "-c", "2", "--max-tasks-per-child=100")
        sent = team.python(SEND.format(calls=CALLS))
        assert sent.returncode == 0, sent.stderr
        dice, main = random.Random(8), psutil.Process(worker.pid)

        def ended():
            return sums(scraped(port))["celery_platform_ended_total",]

        killed, goals = 0, list(range(CALLS // 12, CALLS - CALLS // 12, CALLS // 12))
        while goals:
            goal = goals.pop(0)
            wait_until(lambda g=goal: ended() >= g, timeout=90, what="calls to end", every=0.2)
            if children := main.children():
                with contextlib.suppress(psutil.Error):
                    dice.choice(children).send_signal(signal.SIGKILL)
                    killed += 1
        wait_until(lambda: ended() >= CALLS, timeout=90, what="every call to end", every=0.2)
        assert killed >= 8
        text = scraped(port)
        # The ledger: the results that the backend holds, one a call, and the dead letters.
        asked = team.python(LEDGER.format(calls=CALLS))
        ledger = dict(re.findall(r"(\w+)=(\d+)", asked.stdout))
        outcomes = sums(text, "outcome")
        tenth = CALLS // 10
        assert {"SUCCESS": 8 * tenth, "FAILURE": tenth, "REVOKED": tenth} == {
            name: int(count) for name, count in ledger.items() if name != "dead"
        }
        assert outcomes["celery_platform_ended_total", "succeeded"] == 8 * tenth
        assert outcomes["celery_platform_ended_total", "dead"] == tenth == int(ledger["dead"])
        assert outcomes["celery_platform_ended_total", "discarded"] == tenth
        plain = sums(text)
        assert plain["celery_task_succeeded_total",] == 8 * tenth
        assert plain["celery_task_failed_total",] == tenth
        assert plain["celery_platform_attempts_count",] == CALLS
        assert plain["celery_worker_tasks_active",] == 0
        assert plain["celery_platform_series_dropped_total",] == 0
        # A process that dies between these counts and its acknowledgement makes one more, never one less.
        for name, exact in (("celery_task_retried_total", tenth), ("celery_platform_deferred_total", tenth)):
            assert exact <= plain[name,] <= exact + killed
        assert {family.name for family in parsed(text)} <= set(FAMILIES)
    finally:
        team.stop()


LEDGER = """
from collections import Counter
from celery_platform import app
states = Counter(app.AsyncResult(f"call-{{number}}").state for number in range({calls}))
print(*(f"{{state}}={{count}}" for state, count in states.items()), f"dead={{app.platform.dead_letters.count()}}")
"""
