"""
Workers of real processes behind pytest-celery's nodes: they serve, die, come back, and outlive their broker.
"""

from __future__ import annotations

import pytest
from celery import __version__

from tests.deployment import Deployment
from tests.nodes import PING_TASKS, celery_setup
from tests.servers import RabbitServer, RedisServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TASKS = """
from celery_platform import platform_task


@platform_task
def double(number: int) -> int:
    return 2 * number
"""


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def setup(request, redis_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nodes")
    server = RedisServer(aof="always") if request.param == "redis" else RabbitServer()
    state = redis_server.url(0)
    with server:
        deployment = Deployment(
            folder, PLATFORM_BROKER_URL=server.url(), PLATFORM_STATE_URL=state, PLATFORM_TASKS=f"tasks,{PING_TASKS}"
        )
        deployment.write("tasks/__init__.py", TASKS)
        with celery_setup(server, server.url(), redis_server, state, deployment) as nodes:
            yield nodes


def double(setup, number):
    return setup.app.send_task("tasks.double", (number,))


def test_a_setup_is_ready_by_task_by_control_and_by_process(setup):
    assert setup.ready(ping=True, control=True, docker=True)
    assert setup.worker.version == __version__
    assert setup.app.control.ping(timeout=10, limit=1) == [{setup.worker.hostname(): {"ok": "pong"}}]
    assert double(setup, 21).get(timeout=30) == 42


def test_a_worker_shows_its_processes(setup):
    parent, *children = setup.worker.get_running_processes_info(["pid", "ppid"])
    assert parent["pid"] == setup.worker.container.program.pid
    assert parent["pid"] in {child["ppid"] for child in children}


def test_what_is_sent_to_a_killed_worker_is_done_when_it_is_back(setup):
    setup.worker.kill()
    assert setup.worker.container.status == "exited"
    call = double(setup, 4)
    setup.worker.restart()
    assert call.get(timeout=90) == 8


def test_a_worker_outlives_a_restart_of_its_broker(setup):
    setup.broker.restart()
    call = wait_until(lambda: double(setup, 5), what="the broker to take a call")
    assert call.get(timeout=90) == 10
    assert setup.worker.container.status == "running"


def test_a_worker_outlives_a_killed_broker(setup):
    setup.broker.kill()
    setup.broker.restart()
    call = wait_until(lambda: double(setup, 6), what="the broker to take a call")
    assert call.get(timeout=90) == 12
    assert setup.worker.container.status == "running"
