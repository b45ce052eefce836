"""
A worker looks at its broker before it takes the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deployment import Deployment
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASKS = """
from celery_platform import platform_task

@platform_task
def nothing() -> None:
    pass
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    made.write("tasks/__init__.py", TASKS)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def evicting_url() -> Iterator[str]:
    with RedisServer(options={"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"}) as server:
        yield server.url()


def test_a_broker_that_evicts_calls_is_refused_with_the_remedy(deployment: Deployment, evicting_url: str) -> None:
    answer = deployment.celery("worker", "--pool=solo", PLATFORM_BROKER_URL=evicting_url)
    assert answer.returncode == 1
    assert "allkeys-lru" in answer.stderr
    assert "maxmemory-policy noeviction" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_refusal_can_be_turned_into_a_warning(deployment: Deployment, evicting_url: str) -> None:
    worker = deployment.worker(
        "--pool=solo", environment={"PLATFORM_BROKER_URL": evicting_url, "PLATFORM_UNSAFE": "warn"}
    )
    assert "allkeys-lru" in worker.output()


def test_a_broker_without_an_append_only_file_is_named(deployment: Deployment, redis_url: str) -> None:
    worker = deployment.worker("--pool=solo", environment={"PLATFORM_BROKER_URL": redis_url})
    assert "append-only file" in worker.output()


def test_an_append_only_noevicting_broker_is_not_complained_about(deployment: Deployment) -> None:
    with RedisServer(aof="everysec") as server:
        worker = deployment.worker("--pool=solo", environment={"PLATFORM_BROKER_URL": server.url()})
        assert "append-only" not in worker.output()
        assert "maxmemory" not in worker.output()
        deployment.stop()


def test_an_override_that_weakens_a_promise_is_named(deployment: Deployment, redis_url: str) -> None:
    deployment.write(
        "tasks/__init__.py", TASKS + "\nfrom celery_platform import app\napp.conf.task_acks_late = False\n"
    )
    worker = deployment.worker("--pool=solo", environment={"PLATFORM_BROKER_URL": redis_url})
    assert "task_acks_late is False" in worker.output()


def test_state_that_other_machines_cannot_see_is_named(deployment: Deployment, amqp_url: str) -> None:
    worker = deployment.worker("--pool=solo", environment={"PLATFORM_BROKER_URL": amqp_url})
    assert "PLATFORM_STATE_URL is not set" in worker.output()
