"""
What an operator pauses or cancels stops in the whole fleet, and the answer is the truth.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from celery_platform.cancellation import cancel
from celery_platform.celery_app import current_platform
from tests.waiting import assert_stays, wait_until

TASKS = """
@platform_task
def plain(n: int) -> int:
    saw("plain", str(n))
    return n

@platform_task(limits=RateLimit("slow", 1, per=3600, key="{account}"))
def limited(account: str, n: int) -> int:
    saw("limited", str(n))
    return n

@platform_task(idempotency=Idempotency(key="job:{n}"))
def long(n: int) -> str:
    saw("long", str(n))
    for _ in range(600):
        if current_call().cancelled:
            saw("stopped", str(n))
            raise Discard("cancelled while it ran")
        time.sleep(0.05)
    return "never"
"""


def ask(fleet, *words, code=0):
    argv = [sys.executable, "-m", "celery", "-A", "platform", *words]
    done = subprocess.run(
        argv, cwd=fleet.folder, check=False, capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_a_pause_holds_all_workers_back_within_two_seconds_and_spends_no_attempt(run):
    with run(TASKS) as fleet:
        fleet.worker(4)
        plain = fleet.task("plain")
        assert plain.delay(0).get(timeout=60) == 0
        ask(fleet, "pause", "task", plain.name, "--reason", "deployment")
        late = [plain.delay(n) for n in range(1, 9)]
        assert_stays(lambda: fleet.count("plain") == 1, seconds=2)
        ask(fleet, "resume", "task", plain.name)
        assert [one.get(timeout=60) for one in late] == list(range(1, 9))
        ask(fleet, "resume", "task", plain.name, code=1)


def test_cancelling_says_what_came_of_it(run):
    with run(TASKS) as fleet:
        worker = fleet.worker(2)
        platform = current_platform()
        limited, long, plain = fleet.task("limited"), fleet.task("long"), fleet.task("plain")
        done = plain.delay(1)
        assert done.get(timeout=60) == 1
        assert cancel(platform, done.id) == "already_done"

        assert limited.delay("a", 1).get(timeout=60) == 1
        parked = limited.delay("a", 2)
        wait_until(lambda: fleet.state.call(parked.id), timeout=30, what="the call to be parked")
        told = json.loads(ask(fleet, "explain", parked.id, "--json"))
        assert "is parked by rate limit slow|a, its reserved time is" in told["sentence"]
        assert told["deferrals"] == 1
        assert cancel(platform, parked.id) == "cancelled"

        running = long.delay(1)
        wait_until(lambda: fleet.count("long") == 1, timeout=30, what="the body to run")
        assert cancel(platform, running.id) == "stopping"
        wait_until(lambda: fleet.count("stopped") == 1, timeout=10, what="the body to see it")
        wait_until(lambda: running.state == "REVOKED", timeout=30, what="the outcome")
        assert list(fleet.state.locks()) == []

        assert cancel(platform, "00000000-0000-0000-0000-000000000000") == "not_found"
        worker.stop()


def test_a_body_that_does_not_listen_is_stopped_and_one_that_resists_is_killed(run):
    tasks = """
    from celery.exceptions import SoftTimeLimitExceeded

    @platform_task(retry=Backoff(on=Exception, attempts=5, first=0.1))
    def deaf(n: int) -> None:
        saw("deaf", str(n))
        time.sleep(60)

    @platform_task(idempotency=Idempotency("{n}", lease=2))
    def stubborn(n: int) -> None:
        saw("stubborn", str(n))
        while True:
            try:
                time.sleep(60)
            except SoftTimeLimitExceeded:
                saw("resisted")
    """
    with run(tasks) as fleet:
        fleet.worker(2)
        deaf = fleet.task("deaf").delay(1)
        wait_until(lambda: fleet.count("deaf") == 1, timeout=60, what="the body to run")
        assert cancel(current_platform(), deaf.id, kill_after=1.5) == "cancelled"
        wait_until(lambda: deaf.state == "REVOKED", timeout=30, what="the outcome")
        stubborn = fleet.task("stubborn").delay(1)
        wait_until(lambda: fleet.count("stubborn") == 1, timeout=60, what="the body to run")
        assert cancel(current_platform(), stubborn.id, kill_after=1) == "killed"
        assert fleet.count("resisted") == 1
        wait_until(lambda: stubborn.state == "REVOKED", timeout=30, what="the outcome")
        assert_stays(lambda: (fleet.count("deaf"), fleet.count("stubborn")) == (1, 1), seconds=3)
        assert current_platform().dead_letters.count() == 0


def test_a_cancelled_call_that_waits_in_its_queue_never_runs(run):
    with run(TASKS) as fleet:
        waiting = [fleet.task("plain").delay(7)]
        on_redis = current_platform().settings.broker_kind == "redis"
        if on_redis:
            waiting.append(fleet.task("plain").apply_async((8,), countdown=1))
        # Nobody can look into a queue of RabbitMQ; the mark stops the call all the same.
        answers = {cancel(current_platform(), one.id) for one in waiting}
        assert answers == {"cancelled" if on_redis else "not_found"}
        fleet.worker(2)
        wait_until(lambda: {one.state for one in waiting} == {"REVOKED"}, timeout=60, what="all to be revoked")
        assert fleet.count("plain") == 0


def test_a_paused_queue_keeps_its_calls_and_a_new_worker_leaves_them_there_too(run):
    tasks = """
    @platform_task
    def plain(n: int) -> int:
        saw("plain", str(n))
        return n
    """
    with run(tasks) as fleet:
        worker = fleet.worker(2)
        plain = fleet.task("plain")
        assert plain.delay(0).get(timeout=60) == 0
        fleet.state.pause("queue:default", reason="maintenance")
        worker.wait_for_output("The queue default is paused", timeout=10)
        late = [plain.delay(n) for n in range(1, 101)]
        newcomer = fleet.worker(2)
        newcomer.wait_for_output("The queue default is paused", timeout=10)
        assert_stays(lambda: fleet.count("plain") == 1, seconds=2)
        # At most what the newcomer fetched before it knew has moved at all.
        received = sum(program.output().count("received") for program in (worker, newcomer))
        assert received <= 1 + 20
        fleet.state.resume("queue:default")
        assert [one.get(timeout=60) for one in late] == list(range(1, 101))
