"""
Real servers, started once a run when a test first asks, and gone at its end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import uuid
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.servers import HttpServer, PostgresServer, RabbitServer, RedisServer, SmtpServer
from tests.servers.process import RUN_VARIABLE, descendants
from tests.servers.redis import DATABASES
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_databases = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running() -> Iterator[None]:
    """
    Mark every descendant of the run, and fail the run when one outlives it.
    """
    run = uuid.uuid4().hex
    os.environ[RUN_VARIABLE] = run
    yield
    try:
        # An embedded server leaves by itself shortly after its last user.
        wait_until(lambda: not list(descendants(run)), timeout=15, what="every process of the run to end", every=0.2)
    finally:
        del os.environ[RUN_VARIABLE]
        for process in descendants(run):
            with contextlib.suppress(psutil.Error):
                process.kill()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """
    One Redis for the run; a test that breaks servers starts its own `RedisServer`.
    """
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitServer]:
    """
    One RabbitMQ for the run.
    """
    with RabbitServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """
    One PostgreSQL for the run; `create_database` gives a test its own.
    """
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def _smtp() -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        yield server


@pytest.fixture
def smtp_server(_smtp: SmtpServer) -> SmtpServer:
    """
    An SMTP server that has received nothing yet.
    """
    _smtp.clear()
    return _smtp


@pytest.fixture
def http_server() -> Iterator[HttpServer]:
    """
    An HTTP server that has received nothing yet.
    """
    with HttpServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """
    An empty database of the run's Redis.
    """
    number = next(_databases) % DATABASES
    with redis_server.client(number) as client:
        client.flushdb()
        yield redis_server.url(number)
        client.flushdb()


@pytest.fixture
def amqp_url(rabbitmq_server: RabbitServer) -> Iterator[str]:
    """
    A fresh virtual host of the run's RabbitMQ.
    """
    vhost = rabbitmq_server.vhost()
    yield rabbitmq_server.url(vhost)
    rabbitmq_server.drop_vhost(vhost)


@pytest.fixture(params=["redis", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """
    An empty broker: a test that asks for it runs on Redis and on RabbitMQ.
    """
    return request.getfixturevalue({"redis": "redis_url", "rabbitmq": "amqp_url"}[request.param])
