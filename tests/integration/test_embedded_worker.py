"""
With no broker configured, a worker, a producer and the results share the embedded Redis of the folder.
"""

from __future__ import annotations

import json
import signal

import psutil
import pytest

from celery_platform import embedded
from tests.deployment import Deployment
from tests.waiting import gone, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TASKS = """
from celery_platform import platform_task


@platform_task
def double(number: int) -> int:
    return 2 * number
"""
ASK = "from celery_platform import app; print(app.send_task('tasks.double', (21,)).get(timeout=60))"
SEND = "from celery_platform import app; app.send_task('tasks.double', (4,), task_id='kept')"
FETCH = "from celery_platform import app; print(app.AsyncResult('kept').get(timeout=60))"


@pytest.fixture
def deployment(tmp_path):
    team = Deployment(tmp_path)
    team.write("tasks/__init__.py", TASKS)
    yield team
    team.stop()
    embedded.stop(tmp_path)


def test_a_worker_and_a_producer_meet_without_any_setting(deployment):
    worker = deployment.worker()
    asked = deployment.python(ASK)
    assert asked.stdout.strip() == "42", asked.stderr
    assert worker.output().count("celery-platform: embedded Redis") == 1
    assert "embedded Redis" not in asked.stderr


def test_a_worker_that_is_asked_to_end_leaves_nothing_running(deployment, tmp_path):
    worker = deployment.worker()
    server = embedded.status(tmp_path)
    assert worker.stop(number=signal.SIGTERM) == 0
    wait_until(lambda: gone(server.pid) and gone(server.guardian_pid), what="the server to leave")


def test_a_killed_worker_leaves_nothing_running(deployment, tmp_path):
    worker = deployment.worker()
    server = embedded.status(tmp_path)
    worker.kill9()
    wait_until(lambda: gone(server.pid) and gone(server.guardian_pid), what="the server to leave")


def test_a_call_waits_on_disk_from_one_session_to_the_next(deployment, tmp_path):
    sent = deployment.python(SEND)
    assert sent.returncode == 0, sent.stderr
    server = embedded.status(tmp_path)
    if server is not None:
        wait_until(lambda: gone(server.pid), what="the server to leave with its only user")
    deployment.worker()
    assert deployment.python(FETCH).stdout.strip() == "8"


def test_a_worker_goes_on_when_the_embedded_server_or_its_guardian_is_killed(deployment, tmp_path):
    deployment.worker()
    for victim in ("pid", "guardian_pid"):
        found = embedded.status(tmp_path)
        psutil.Process(getattr(found, victim)).kill()
        wait_until(lambda: gone(found.pid), what="the server to end")  # noqa: B023 - asked at once
        asked = deployment.python(ASK)
        assert asked.stdout.strip() == "42", asked.stderr


def test_the_command_of_celery_shows_it_as_one_json_document(deployment, tmp_path):
    deployment.celery("embedded", "start")
    shown = deployment.celery("embedded", "status", "--json")
    assert json.loads(shown.stdout)["pid"] == embedded.status(tmp_path).pid
    assert deployment.celery("embedded", "stop").returncode == 0
    assert deployment.celery("embedded", "status").returncode == 1
    assert deployment.celery("embedded", "nonsense").returncode == 2
