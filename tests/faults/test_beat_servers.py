"""
A database or a state store that goes away in the middle loses no firing and doubles none.
"""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from tests.faults.beats import Siege, assert_each_second_once
from tests.servers import PostgresServer, RedisServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def outlives(siege, strike):
    siege.deployment.worker("-c", "2", "-P", "threads")
    siege.beat()
    siege.beat()
    wait_until(lambda: len(siege.runs()) >= 3, timeout=60, what="the first runs")
    strike()
    last = siege.runs()[-1]
    wait_until(lambda: siege.runs()[-1] > last + timedelta(seconds=10), timeout=90, what="runs after the strike")
    assert_each_second_once(siege.runs())


def test_a_database_that_restarts_in_the_middle_loses_no_firing(redis_server, redis_url, tmp_path):
    with PostgresServer() as server:
        siege = Siege(tmp_path, redis_server, redis_url, server.create_database())
        try:

            def strike():
                server.stop()
                away = time.monotonic() + 5
                wait_until(lambda: time.monotonic() > away, timeout=10, what="a database that is away for a while")
                server.start()

            outlives(siege, strike)
        finally:
            siege.close()


def test_a_broker_that_is_killed_in_the_middle_loses_no_firing(tmp_path):
    with RedisServer(aof="always") as server:
        siege = Siege(tmp_path, server, server.url(), f"sqlite:///{tmp_path}/beat.sqlite3")
        try:
            outlives(siege, lambda: server.restart(kill=True))
        finally:
            siege.close()
