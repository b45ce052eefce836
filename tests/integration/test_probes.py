"""
Workers and beat answer their probes from the main process: at once, with the reason, and without the broker.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.deployment import CELERY, Deployment
from tests.servers import Program, RedisServer, free_port
from tests.waiting import assert_stays, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TASKS = """
import time

from celery.worker.control import control_command

from celery_platform import platform_task


@platform_task
def hold(seconds: float) -> None:
    time.sleep(seconds)


@control_command(name="block_the_loop")
def block(state):
    time.sleep(60)
"""
HOLD = "from celery_platform import app; [app.send_task('tasks.hold', ({seconds},), queue='{queue}') for _ in range(2)]"
BLOCK = "from celery_platform import app; app.control.broadcast('block_the_loop', destination=['{name}'])"
SCHEDULE = """
from celery_platform.beat import every

schedule = [every("tasks.hold", hours=1, name="hold", args=(0,))]
"""


@pytest.fixture
def server():
    with RedisServer() as own:
        yield own


@pytest.fixture
def deployment(tmp_path, server):
    team = Deployment(tmp_path, PLATFORM_BROKER_URL=server.url(), PLATFORM_QUEUES="solo")
    team.write("tasks/__init__.py", TASKS)
    yield team
    team.stop()


def probe(port, name):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=10) as answer:
            return answer.status, json.loads(answer.read())["why"]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["why"]


def fails(port, name):
    status, why = probe(port, name)
    return why if status == 503 else None


def passes(port, name):
    return probe(port, name)[0] == 200


def milliseconds(port, name):
    started = time.perf_counter()
    probe(port, name)
    return (time.perf_counter() - started) * 1000


def test_a_worker_says_how_it_is_through_an_outage_and_long_tasks(deployment, server):
    port = free_port()
    deployment.worker("-P", "prefork", "-c", "2", environment={"PLATFORM_HEALTH_PORT": str(port)})
    for name in ("live", "ready", "startup"):
        assert probe(port, name) == (200, "")
    told = deployment.celery("health", "--json", PLATFORM_HEALTH_PORT=str(port))
    assert (told.returncode, json.loads(told.stdout)["role"]) == (0, "worker")

    deployment.python(HOLD.format(seconds=4, queue="default"))
    answers = [milliseconds(port, name) for _ in range(50) for name in ("live", "ready", "startup")]
    assert statistics.median(answers) <= 10
    assert passes(port, "ready")

    server.kill9()
    why = wait_until(lambda: fails(port, "ready"), what="the outage to be told")
    assert "the broker at redis://" in why
    assert passes(port, "live")
    assert passes(port, "startup")
    asked = deployment.run(
        [sys.executable, "-m", "celery_platform.instrumentation.asking"], timeout=30, PLATFORM_HEALTH_PORT=str(port)
    )
    assert (asked.returncode, "the broker at redis://" in asked.stdout) == (1, True), asked.stderr
    server.start()
    wait_until(lambda: passes(port, "ready"), what="the worker to be ready again", timeout=60)


def test_a_blocked_loop_is_told_within_fifteen_seconds_and_a_long_task_is_not(deployment):
    blocked, solo = free_port(), free_port()
    victim = deployment.worker("-P", "prefork", "-c", "1", environment={"PLATFORM_HEALTH_PORT": str(blocked)})
    alone = deployment.worker("-P", "solo", "-Q", "solo", environment={"PLATFORM_HEALTH_PORT": str(solo)})
    deployment.python(HOLD.format(seconds=60, queue="solo"))
    name = next(line for line in victim.output().splitlines() if line.endswith(" ready.")).split()[-2]
    deployment.python(BLOCK.format(name=name))
    started = time.monotonic()
    why = wait_until(lambda: fails(blocked, "live"), what="the blocked loop to be told")
    assert "the main loop has been blocked" in why
    assert time.monotonic() - started <= 15
    assert_stays(lambda: passes(solo, "live"), seconds=2)
    for worker in (victim, alone):
        worker.kill_group()


def test_a_worker_without_a_broker_has_started_and_says_what_it_waits_for(tmp_path):
    port, nowhere = free_port(), free_port()
    team = Deployment(
        tmp_path, PLATFORM_BROKER_URL=f"redis://:pass@127.0.0.1:{nowhere}/0", PLATFORM_HEALTH_PORT=str(port)
    )
    team.write("tasks/__init__.py", TASKS)
    try:
        team.worker("-P", "solo", wait=False)
        wait_until(lambda: passes(port, "startup"), what="the worker to come up", timeout=60)
        assert passes(port, "live")
        assert probe(port, "ready") == (503, f"it is not connected to the broker at redis://:***@127.0.0.1:{nowhere}/0")
        told = team.celery("health")
        assert (told.returncode, "it is not connected" in told.stdout) == (1, True)
    finally:
        team.stop()


def test_beat_is_ready_when_it_ticks_and_says_which_server_it_waits_for(deployment, server, tmp_path):
    port = free_port()
    deployment.write("beat/__init__.py", SCHEDULE)
    beat = Program(
        [CELERY, "-A", "platform", "beat"],
        log=tmp_path / "beat.log",
        cwd=tmp_path,
        env={**deployment.environment, "PLATFORM_HEALTH_PORT": str(port)},
    ).start()
    try:
        wait_until(lambda: passes(port, "ready"), what="beat to be ready", timeout=60)
        server.kill9()
        assert "they wait for a server" in wait_until(lambda: fails(port, "ready"), what="the outage to be told")
        assert passes(port, "live")
        server.start()
        wait_until(lambda: passes(port, "ready"), what="beat to be ready again")
    finally:
        beat.stop()
