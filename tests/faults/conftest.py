from __future__ import annotations

import itertools

import pytest

from tests.faults.fleet import fleet

_numbers = itertools.count()


@pytest.fixture
def observer_url(redis_server):
    # The last database of the run's Redis; brokers and stores of tests take the others in turn.
    from tests.servers.redis import DATABASES

    with redis_server.client(DATABASES - 1) as client:
        client.flushdb()
    return redis_server.url(DATABASES - 1)


@pytest.fixture
def run(monkeypatch, tmp_path, broker_url, redis_server, observer_url):
    """
    `with run(tasks) as fleet:` on the broker of the test; state always lives on Redis.
    """
    from tests.servers.redis import DATABASES

    state_url = broker_url if broker_url.startswith("redis") else redis_server.url(DATABASES - 2)
    if state_url != broker_url:
        with redis_server.client(DATABASES - 2) as client:
            client.flushdb()

    def make(tasks: str):
        folder = tmp_path / f"run{next(_numbers)}"
        folder.mkdir()
        return fleet(monkeypatch, folder, broker_url, state_url, observer_url, tasks)

    return make
