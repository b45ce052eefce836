"""
The guards' store goes away and comes back: each guard keeps to its rule, and no call is lost.
"""

from __future__ import annotations

import pytest

from tests.faults.fleet import fleet
from tests.servers import RedisServer
from tests.waiting import wait_until

TASKS = """
@platform_task(idempotency=Idempotency("{n}"))
def keyed(n: int) -> int:
    saw("keyed", str(n))
    return n

@platform_task(breaker=CircuitBreaker("shop"), limits=[RateLimit("api", 1000), ConcurrencyLimit("db", 100)])
def open_handed(n: int) -> int:
    saw("open_handed", str(n))
    return n

@platform_task(limits=RateLimit("strict", 1000, on_outage="defer"))
def strict(n: int) -> int:
    saw("strict", str(n))
    return n
"""


@pytest.fixture
def store():
    with RedisServer(aof="always") as server:
        yield server


def test_keyed_calls_wait_the_others_run_and_none_is_lost(monkeypatch, tmp_path, redis_url, store, observer_url):
    with fleet(monkeypatch, tmp_path, redis_url, store.url(0), observer_url, TASKS) as run:
        # Results live beside the broker here: only the guards' store goes away.
        monkeypatch.setenv("PLATFORM_RESULT_URL", redis_url)
        worker = run.worker(4)
        keyed, open_handed, strict = (run.task(name) for name in ("keyed", "open_handed", "strict"))
        keyed.delay(0)
        wait_until(lambda: run.count("keyed") == 1, timeout=60, what="the first call")
        store.kill9()
        for n in range(1, 11):
            open_handed.delay(n)
            strict.delay(n)
            keyed.delay(n)
        wait_until(lambda: run.count("open_handed") == 10, timeout=60, what="what the rule lets through")
        worker.wait_for_output("could not be asked (defer)", times=2)
        assert (run.count("keyed"), run.count("strict")) == (1, 0)
        store.start()
        wait_until(lambda: run.count("keyed") == 11 and run.count("strict") == 10, timeout=90, what="what waited")
        assert sorted(int(what) for _, _, what in run.seen("keyed")) == list(range(11))
        assert sorted(int(what) for _, _, what in run.seen("strict")) == list(range(1, 11))
