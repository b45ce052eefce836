"""
Real Celery workers on our transport, beside stock producers and stock workers.
"""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import redis
from celery import chord

from tests.integration.redis_transport import KEYS, OURS, STOCK, Ledger, Worker, publisher
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import RedisServer


@pytest.fixture
def ledger(redis_server: RedisServer) -> Ledger:
    with redis_server.client(500) as client:
        client.flushdb()
    return Ledger(redis_server.url(500))


@pytest.fixture
def start(redis_url: str, ledger: Ledger, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(*words: str, **options: Any) -> Worker:
        options.setdefault("name", f"w{len(workers)}")
        worker = Worker(tmp_path, redis_url, ledger.url, *words, **options)
        workers.append(worker)
        return worker.ready()

    yield begin
    for worker in workers:
        worker.send(signal.SIGQUIT)
    for worker in workers:
        worker.stop()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as link:
        yield link


def app_with_results(redis_url: str, ledger: Ledger, transport: str = OURS) -> Any:
    app = publisher(redis_url, transport)
    app.conf.update(result_backend=ledger.url, task_ignore_result=False)
    return app


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
@pytest.mark.parametrize("transport", [OURS, STOCK], ids=["from ours", "from stock"])
def test_every_pool_runs_calls_of_every_producer(
    start: Callable[..., Worker], redis_url: str, ledger: Ledger, client: redis.Redis, pool: str, transport: str
) -> None:
    start("-P", pool, "-c", "2")
    app = publisher(redis_url, transport)
    for number in range(50):
        app.send_task("run", (number,))
    wait_until(lambda: not ledger.missing(range(50)))
    wait_until(lambda: not client.keys(KEYS.held("*")))
    assert all(ledger.started(number) == 1 for number in range(50))


def test_a_stock_worker_runs_what_our_producer_sends_also_when_it_was_delayed(
    start: Callable[..., Worker], redis_url: str, ledger: Ledger
) -> None:
    start("-c", "1", transport="stock", name="stock")
    ours = start("-c", "1", name="ours")
    app = publisher(redis_url)
    ours.pause()  # it fetches nothing; its lease of nothing does not matter
    for number in range(10):
        app.send_task("run", (number,))
    wait_until(lambda: not ledger.missing(range(10)))
    ours.resume()
    for number in range(10, 30):
        app.send_task("run", (number,), countdown=0.5)
    wait_until(lambda: not ledger.missing(range(10, 30)))
    assert all(ledger.started(number) == 1 for number in range(30))


def test_chords_complete(start: Callable[..., Worker], redis_url: str, ledger: Ledger) -> None:
    start("-c", "2")
    app = app_with_results(redis_url, ledger)
    header = [app.signature("add", (number, number), app=app) for number in range(10)]
    assert chord(header, app=app)(app.signature("total", app=app)).get(timeout=30) == 90


def test_inspect_control_and_revoke_work(start: Callable[..., Worker], redis_url: str, ledger: Ledger) -> None:
    start("-c", "1")
    app = publisher(redis_url)
    assert wait_until(lambda: app.control.ping(timeout=1)) == [{"w0@test": {"ok": "pong"}}]
    app.send_task("run", (1, 2.0))
    wait_until(lambda: ledger.started(1))
    assert [call["name"] for call in app.control.inspect(timeout=1).active()["w0@test"]] == ["run"]
    revoked = app.send_task("run", (2,))
    app.control.revoke(revoked.id)
    app.send_task("run", (3,))
    wait_until(lambda: ledger.finished(3))
    assert not ledger.started(2)


def test_events_reach_a_stock_monitor(start: Callable[..., Worker], redis_url: str) -> None:
    start("-c", "1", "-E")
    app = publisher(redis_url, STOCK)
    seen: set[str] = set()

    def on_event(event: dict[str, Any]) -> None:
        seen.add(event["type"])
        if event["type"] == "worker-heartbeat":  # the monitor asked for it: now it listens
            publisher(redis_url).send_task("run", (len(seen),))

    with app.connection_for_read() as link:
        receiver = app.events.Receiver(link, handlers={"*": on_event})

        def capture() -> bool:
            with contextlib.suppress(TimeoutError):
                receiver.capture(limit=10, timeout=3)
            return {"task-received", "task-started", "task-succeeded"} <= seen

        wait_until(capture)


def test_queued_and_delayed_calls_leave_the_worker_small(
    start: Callable[..., Worker], redis_url: str, ledger: Ledger, client: redis.Redis
) -> None:
    worker = start("-c", "1")
    app = publisher(redis_url, STOCK)  # stock leaves delayed calls in the list
    app.send_task("run", (0,))
    wait_until(lambda: ledger.finished(0))
    before = psutil.Process(worker.pid).memory_info().rss
    app.send_task("run", (1,), countdown=3_600)
    (sample,) = wait_until(lambda: client.hvals(KEYS.delayed_messages))
    stock_form = sample.replace('"platform_delayed":true', '"platform_delayed":false')
    for _ in range(100):
        client.lpush("celery", *[stock_form] * 100)
    app.send_task("run", (2,))
    wait_until(lambda: ledger.finished(2), timeout=60)
    wait_until(lambda: client.zcard(KEYS.delayed) == 10_001, timeout=60)
    assert psutil.Process(worker.pid).memory_info().rss - before < 5_000_000


def test_delayed_calls_fire_within_a_second_never_early_never_twice(
    start: Callable[..., Worker], redis_url: str, ledger: Ledger
) -> None:
    start("-c", "2", "-P", "solo")
    app = publisher(redis_url)
    due = {}
    for number in range(200):
        due[number] = time.time() + 1
        app.send_task("run", (number,), countdown=1)
    wait_until(lambda: not ledger.missing(range(200)))
    late = []
    for number, when in due.items():
        (started,) = ledger.client.lrange(f"started:{number}", 0, -1)
        late.append(float(started.split()[0]) - when)
    assert min(late) > -0.01
    assert sorted(late)[197] < 1


def test_a_killed_worker_loses_its_lease_and_another_takes_the_work_over(
    start: Callable[..., Worker], redis_url: str, ledger: Ledger
) -> None:
    first = start("-c", "2", lease=2)
    app = publisher(redis_url)
    for number in range(2):
        app.send_task("run", (number, 300 if number < 2 else 0))
    wait_until(lambda: ledger.started(0) and ledger.started(1))
    start("-c", "2", lease=2)
    killed = time.monotonic()
    first.kill_group()
    wait_until(lambda: ledger.started(0) == ledger.started(1) == 2, timeout=20)
    assert time.monotonic() - killed < 2 + 2


def test_a_call_much_longer_than_the_lease_runs_once(
    start: Callable[..., Worker], redis_url: str, ledger: Ledger
) -> None:
    start("-c", "1", lease=1, name="a")
    start("-c", "1", "-P", "solo", lease=1, name="b")
    app = publisher(redis_url)
    for number in range(2):
        app.send_task("run", (number, 6.0))
    wait_until(lambda: not ledger.missing(range(2)))
    assert [ledger.started(number) for number in range(2)] == [1, 1]


def test_a_frozen_worker_loses_its_work_and_cannot_settle_it_afterwards(
    start: Callable[..., Worker], redis_url: str, ledger: Ledger, client: redis.Redis
) -> None:
    frozen = start("-P", "solo", lease=1)
    app = publisher(redis_url)
    app.send_task("run", (1, 1.0))
    wait_until(lambda: ledger.started(1))
    frozen.pause()
    start("-P", "solo", lease=1)
    wait_until(lambda: ledger.finished(1), timeout=20)
    frozen.resume()
    wait_until(lambda: ledger.finished(1) == 2, timeout=20)
    app.send_task("run", (2,))
    wait_until(lambda: ledger.finished(2))
    wait_until(lambda: not client.keys(KEYS.held("*")))
    assert ledger.started(1) == 2
    assert client.llen("celery") == 0


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_poison_pill_ends_as_a_casualty_and_its_neighbours_run(
    start: Callable[..., Worker], redis_url: str, ledger: Ledger, client: redis.Redis, pool: str
) -> None:
    app = publisher(redis_url)
    for number in range(5):
        app.send_task("run", (number,))
    app.send_task("die", (99,))
    for number in range(5, 10):
        app.send_task("run", (number,))
    worker = start("-P", pool, "-c", "2", lease=1, prefetch=4)

    def over() -> bool:
        if not worker.alive:
            worker.kill_group()
            worker.ready()
        return bool(client.llen(KEYS.casualties)) and not ledger.missing(range(10))

    wait_until(over, timeout=90)
    assert ledger.started(99) == 3


def test_stopping_gives_back_what_has_not_started(
    start: Callable[..., Worker], redis_url: str, ledger: Ledger, client: redis.Redis
) -> None:
    worker = start("-c", "1", prefetch=8)
    app = publisher(redis_url)
    for number in range(8):
        app.send_task("run", (number, 300))
    wait_until(lambda: ledger.started(0))
    worker.send(signal.SIGQUIT)
    wait_until(lambda: not worker.alive)
    assert client.llen("celery") == 8
    assert not client.keys(KEYS.held("*"))
    assert "platform_deaths" not in "".join(client.lrange("celery", 0, -1))


def test_an_undecodable_message_does_not_stop_the_worker(
    start: Callable[..., Worker], redis_url: str, ledger: Ledger, client: redis.Redis
) -> None:
    worker = start("-c", "1")
    client.lpush("celery", "not json", "[1]", '{"body": "a", "properties": {"body_encoding": "base64"}}', "{}")
    publisher(redis_url).send_task("run", (1,))
    wait_until(lambda: ledger.finished(1))
    wait_until(lambda: client.llen(KEYS.casualties) == 4)
    assert worker.alive
