"""
What the Redis transport promises while workers and the server die: nothing lost, and little done twice.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import RedisError

from celery_platform.transport import consumer as consumer_module
from tests.integration.redis_transport import KEYS, Ledger, Worker, bodies, consumer, publisher, send
from tests.servers import RedisServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CALLS = int(os.environ.get("N", "600"))


@pytest.fixture
def ledger(redis_server: RedisServer) -> Ledger:
    with redis_server.client(501) as client:
        client.flushdb()
    return Ledger(redis_server.url(501))


@pytest.fixture
def broker() -> Iterator[RedisServer]:
    with RedisServer(aof="always") as server:
        yield server


@pytest.fixture
def start(broker: RedisServer, ledger: Ledger, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(*words: str, **options: Any) -> Worker:
        worker = Worker(tmp_path, broker.url(), ledger.url, *words, name=f"w{len(workers)}", **options)
        workers.append(worker)
        return worker.start()

    yield begin
    for worker in workers:
        worker.kill_group()
        worker.stop()


@pytest.mark.parametrize(("pool", "prefetch"), [("prefork", 4), ("solo", 16)])
def test_no_call_is_lost_when_workers_are_killed_at_random(
    start: Callable[..., Worker], broker: RedisServer, ledger: Ledger, pool: str, prefetch: int
) -> None:
    app = publisher(broker.url())
    for number in range(CALLS):
        app.send_task("run", (number, 0.005))
    workers = [start("-P", pool, "-c", "2", lease=2, prefetch=prefetch) for _ in range(2)]
    for number in range(4):
        left = CALLS * (1 - number / 8)
        wait_until(lambda left=left: len(ledger.missing(range(CALLS))) < left, timeout=60)
        victim = workers[number % 2]
        time.sleep(random.uniform(0, 0.2))  # any moment will do
        victim.kill_group()
        workers[number % 2] = start("-P", pool, "-c", "2", lease=2, prefetch=prefetch)
    wait_until(lambda: not ledger.missing(range(CALLS)), timeout=90, what="every call to finish")
    twice = sum(ledger.finished(number) > 1 for number in range(CALLS))
    with broker.client() as client:
        assert client.llen(KEYS.casualties) == 0
        wait_until(lambda: not client.exists("celery") and not client.keys(KEYS.held("*")), timeout=20)
    assert twice <= 4 * prefetch * 2


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_workers_go_on_when_the_server_was_killed_and_came_back(
    start: Callable[..., Worker], broker: RedisServer, ledger: Ledger, pool: str
) -> None:
    app = publisher(broker.url())
    for number in range(CALLS // 3):
        app.send_task("run", (number, 0.05 if number % 2 else 0.0))
    worker = start("-P", pool, "-c", "2", lease=5, prefetch=2)
    for fraction in (0.9, 0.6, 0.3):
        left = CALLS // 3 * fraction
        wait_until(lambda left=left: len(ledger.missing(range(CALLS // 3))) < left, timeout=60)
        broker.kill9()
        broker.start()
    wait_until(lambda: not ledger.missing(range(CALLS // 3)), timeout=60, what="every call to finish")
    assert worker.alive
    twice = sum(ledger.finished(number) > 1 for number in range(CALLS // 3))
    assert twice <= 3 * 4
    with broker.client() as client:
        wait_until(lambda: not client.exists("celery") and not client.keys(KEYS.held("*")), timeout=20)


def test_a_call_that_outlasts_an_outage_longer_than_its_lease_is_not_repeated(
    start: Callable[..., Worker], broker: RedisServer, ledger: Ledger
) -> None:
    app = publisher(broker.url())
    app.send_task("run", (1, 12.0))
    start("-P", "prefork", "-c", "1", lease=1)
    start("-P", "prefork", "-c", "1", lease=1)
    wait_until(lambda: ledger.started(1))
    broker.kill9()
    time.sleep(3)  # the outage
    broker.start()
    wait_until(lambda: ledger.finished(1), timeout=40)
    with broker.client() as client:
        wait_until(lambda: not client.exists("celery") and not client.keys(KEYS.held("*")), timeout=20)
    assert ledger.started(1) == 1


def test_what_could_not_be_given_back_is_given_back_when_the_server_returns(broker: RedisServer) -> None:
    send(broker.url(), "q", 1, 2)
    me = consumer(broker.url(), "q", owner="me", lease=30, renew=True)
    assert len(me.fetch(2)) == 2
    broker.kill9()
    me.close()
    broker.start()
    with broker.client() as client:
        wait_until(lambda: client.llen("q") == 2 and not client.exists(KEYS.leases), timeout=20)
        assert not client.exists(KEYS.held("me"))


def test_a_reply_lost_at_the_very_end_leaves_no_orphan(redis_url: str) -> None:
    heir = consumer(redis_url, "q")
    heir.fetch(1)  # the server knows the script from here on
    send(redis_url, "q", 1, 2)
    me = consumer(redis_url, "q", owner="me")
    me.start_fetch(2)
    wait_until(lambda: heir.client.hlen(KEYS.held("me")) == 2)
    me.line.hang_up()
    me.close()
    assert wait_until(lambda: bodies(heir.fetch(2))) == [1, 2]


class Dies:
    """Let the consumer's process seem to die at its *n*-th command, before or after the server has it."""

    def __init__(self, after: int, *, applied: bool) -> None:
        self.left = after
        self.applied = applied

    def __call__(self, send_command: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*words: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                if self.applied:
                    send_command(*words, **options)
                raise SystemExit("killed")
            if self.left < 0:
                raise SystemExit("dead")
            return send_command(*words, **options)

        return guarded


def work(url: str, owner: str, dies: Dies, done: list[Any]) -> None:
    me = consumer(url, "q", owner=owner)
    me.client.execute_command = dies(me.client.execute_command)  # type: ignore[method-assign]
    ask = me.line.ask
    me.line.ask = dies(ask)  # type: ignore[method-assign]
    try:
        for turn in range(4):
            for delivery in me.fetch(3):
                (body,) = bodies([delivery])
                if turn == 1:
                    me.requeue(delivery)
                elif turn == 2:
                    me.return_([delivery.field])
                else:
                    done.append(body)
                    me.ack(delivery.field)
        me.flush()
        me.close()
    except SystemExit:
        return


@pytest.mark.parametrize("applied", [False, True], ids=["before the server has it", "after"])
def test_a_consumer_that_dies_at_any_command_loses_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, applied: bool
) -> None:
    monkeypatch.setattr(consumer_module, "_STALE", 0.0)  # every settlement is a command of its own
    for point in range(1, 25):
        done: list[Any] = []
        send(redis_url, "q", *range(10))
        work(redis_url, f"victim{point}", Dies(point, applied=applied), done)
        heir = consumer(redis_url, "q", owner=f"heir{point}")
        heir.reclaim(f"victim{point}")
        while rest := heir.fetch(20):
            for delivery in rest:
                done += bodies([delivery])
                heir.ack(delivery.field)
        heir.close()
        assert set(done) == set(range(10)), f"killed at command {point}"
        assert len(done) <= 10 + 3, f"killed at command {point}"


def test_a_connection_that_breaks_at_any_reply_loses_nothing_and_repeats_nothing(redis_url: str) -> None:
    for point in range(1, 12):
        send(redis_url, "q", *range(10))
        me = consumer(redis_url, "q", owner=f"me{point}")
        answer, left, done = me.line.answer, point, []

        def broken() -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                answer()  # noqa: B023 - called in this turn only
                me.line.hang_up()  # noqa: B023
                raise ConnectionResetError
            return answer()  # noqa: B023

        me.line.answer = broken  # type: ignore[method-assign]
        turns = 0
        while len(done) < 10 and turns < 30:
            turns += 1
            try:
                deliveries = me.fetch(3)
            except (OSError, RedisError):
                continue
            for delivery in deliveries:
                done += bodies([delivery])
                me.ack(delivery.field)
        me.close()
        assert sorted(done) == list(range(10)), f"broken at reply {point}"
