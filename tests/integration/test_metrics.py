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
import redis
from prometheus_client.parser import text_string_to_metric_families as parsed

from celery_platform.instrumentation.asking import ask
from celery_platform.instrumentation.families import FAMILIES
from tests.deployment import CELERY, ROOT, Deployment
from tests.servers import Program, RedisServer, free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

METRIC = re.compile(r"\b(?:celery_(?!platform\b)|platform_queue_)[a-z_]+\b(?=[{(\[) ]|$)")
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
    ledger.incr("successes")
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


@pytest.mark.parametrize("deaths", [False, True], ids=["recycled", "killed"])
def test_counts_equal_a_ledger_after_recycled_and_killed_processes(tmp_path, redis_url, deaths):
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
            if deaths and (children := main.children()):
                with contextlib.suppress(psutil.Error):
                    dice.choice(children).send_signal(signal.SIGKILL)
                    killed += 1
        assert killed >= 8 * deaths
        tenth = CALLS // 10

        # The ledger: the results that the backend holds, one a call, the letters, and the bodies that came to an end.
        def ledger():
            asked = team.python(LEDGER.format(calls=CALLS))
            return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", asked.stdout)}

        expected = {"SUCCESS": 8 * tenth, "FAILURE": tenth, "REVOKED": tenth, "dead": tenth}
        wait_until(lambda: ledger() == expected, timeout=90, what="every call to end", every=0.2)
        wait_until(lambda: sums(scraped(port))["celery_worker_tasks_active",] == 0, timeout=90, what="the last run")
        text = scraped(port)
        outcomes, plain = sums(text, "outcome"), sums(text)
        succeeded = outcomes["celery_platform_ended_total", "succeeded"]
        # A process killed between a retry it sent and its acknowledgement sends it twice: both run, and both end.
        with redis.Redis.from_url(redis_url) as client:
            assert 8 * tenth <= succeeded <= int(client.get("successes"))
        assert outcomes["celery_platform_ended_total", "dead"] == tenth
        assert outcomes["celery_platform_ended_total", "discarded"] == tenth
        assert plain["celery_task_succeeded_total",] == succeeded
        assert plain["celery_task_failed_total",] == tenth
        assert plain["celery_platform_attempts_count",] == succeeded + 2 * tenth
        for name, exact in (("celery_task_retried_total", tenth), ("celery_platform_deferred_total", tenth)):
            assert exact <= plain[name,] <= exact + killed
        assert plain["celery_platform_series_dropped_total",] == 0
        assert {family.name for family in parsed(text)} <= set(FAMILIES)
    finally:
        team.stop()


LEDGER = """
from collections import Counter
from celery_platform import app
states = Counter(app.AsyncResult(f"call-{{number}}").state for number in range({calls}))
print(*(f"{{state}}={{count}}" for state, count in states.items()), f"dead={{app.platform.dead_letters.count()}}")
"""


def test_the_exporter_tells_of_queues_and_letters_and_of_an_outage(tmp_path):
    port = free_port()
    with RedisServer() as server:
        team = Deployment(
            tmp_path, PLATFORM_BROKER_URL=server.url(), LEDGER_URL=server.url(), PLATFORM_METRICS_PORT=str(port)
        )
        team.write("tasks/__init__.py", TASKS)
        sent = team.python(SEND.format(calls=3))
        assert sent.returncode == 0, sent.stderr
        assert team.celery("pause", "queue", "default", "--reason", "test").returncode == 0
        log, environment = tmp_path / "exporter.log", team.environment
        exporter = Program([CELERY, "-A", "platform", "exporter"], log=log, cwd=tmp_path, env=environment).start()
        try:
            wait_until(lambda: ask("ready", port)["ok"], timeout=60, what="the exporter to be ready")
            text = scraped(port)
            by_queue = sums(text, "queue_name")
            assert by_queue["celery_queue_length", "default"] == 3
            assert by_queue["platform_queue_paused", "default"] == 1
            assert by_queue["platform_queue_paused", "celery"] == 0
            assert by_queue["platform_queue_oldest_age_seconds", "default"] > 0
            assert sums(text)["celery_platform_dead_letters",] == 0
            exported = {name for name, *_ in sums(text)}
            wanted = {one.name for one in FAMILIES.values() if one.source == "exporter"}
            assert wanted - exported == {"celery_active_consumer_count"}, "which only RabbitMQ knows"
            server.kill9()
            wait_until(lambda: not ask("ready", port)["ok"], what="the outage to be told")
            assert ask("live", port)["ok"]
            assert sums(scraped(port), "part")["celery_platform_exporter_up", "the broker"] == 0
            server.start()
            wait_until(lambda: ask("ready", port)["ok"], what="the exporter to be ready again")
            assert exporter.stop() == 0
        finally:
            exporter.stop()


def test_the_shipped_alerts_and_dashboards_ask_for_metrics_that_exist():
    known = {series for family in FAMILIES.values() for series in family.series} | set(FAMILIES)
    files = [path for path in (ROOT / "helm" / "files").rglob("*") if path.suffix in {".yaml", ".json"}]
    used = {name for path in files for name in METRIC.findall(path.read_text())}
    assert used
    assert used <= known
