"""
kombu's own operations on our transport behave as on stock, and both share one server.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import time
from typing import TYPE_CHECKING, Any

import kombu
import pytest
import redis

from tests.integration.redis_transport import KEYS, OURS, STOCK, connection, send
from tests.servers import RedisServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUE = kombu.Queue("q", kombu.Exchange("q"), routing_key="q")


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as link:
        yield link


def receive(link: kombu.Connection, count: int, *, timeout: float = 10, ack: bool = True, **options: Any) -> list[Any]:
    got: list[Any] = []

    def take(body: Any, message: kombu.Message) -> None:
        got.append(body)
        if ack:
            message.ack()

    with link.Consumer([QUEUE], callbacks=[take], **options):
        deadline = time.monotonic() + timeout
        while len(got) < count and time.monotonic() < deadline:
            try:
                link.drain_events(timeout=0.5)
            except TimeoutError:
                continue
    return got


@pytest.mark.parametrize(("writer", "reader"), [(OURS, STOCK), (STOCK, OURS), (OURS, OURS)])
def test_ours_and_stock_understand_each_other(redis_url: str, writer: str, reader: str) -> None:
    send(redis_url, "q", *range(20), transport=writer)
    with connection(redis_url, reader) as link:
        assert receive(link, 20) == list(range(20))


@pytest.mark.parametrize(("writer", "reader"), [(OURS, STOCK), (STOCK, OURS)])
def test_priorities_lie_in_the_same_lists(redis_url: str, writer: str, reader: str) -> None:
    for priority in (9, 0, 6, 3, 5):
        send(redis_url, "q", priority, transport=writer, priority=priority)
    with connection(redis_url, reader) as link:
        assert receive(link, 5) == [0, 3, 5, 6, 9]


def test_one_event_is_drained_at_a_time_as_on_stock(redis_url: str) -> None:
    send(redis_url, "q", 1, 2, 3)
    got: list[Any] = []
    with connection(redis_url) as link, link.Consumer([QUEUE], callbacks=[lambda body, _: got.append(body)]):
        link.drain_events(timeout=2)
        assert got == [1]


def test_nothing_to_drain_times_out(redis_url: str) -> None:
    with connection(redis_url) as link, link.Consumer([QUEUE], callbacks=[print]):
        began = time.monotonic()
        with pytest.raises(socket.timeout):
            link.drain_events(timeout=0.3)
        assert 0.25 < time.monotonic() - began < 2


def test_the_prefetch_count_bounds_what_is_held(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", *range(10))
    got: list[Any] = []
    with connection(redis_url) as link:
        channel = link.channel()
        with kombu.Consumer(channel, [QUEUE], callbacks=[lambda _, message: got.append(message)], prefetch_count=3):
            for _ in range(3):
                link.drain_events(timeout=2)
            with pytest.raises(socket.timeout):
                link.drain_events(timeout=0.2)
            assert client.llen("q") == 7
            got[0].ack()
            link.drain_events(timeout=2)
            assert len(got) == 4
    assert client.llen("q") == 9


def test_closing_a_channel_gives_back_what_was_not_acknowledged(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", 1, 2, 3)
    with connection(redis_url) as link:
        assert receive(link, 2, ack=False) == [1, 2]
    assert client.llen("q") == 3
    assert not client.keys("platform:*")
    with connection(redis_url) as link:
        assert receive(link, 3) == [1, 2, 3]


def test_cancelling_a_consumer_gives_back_what_was_not_delivered(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", *range(5))
    with connection(redis_url) as link:
        channel = link.channel()
        consumer = kombu.Consumer(channel, [QUEUE], callbacks=[lambda _, message: message.ack()], prefetch_count=4)
        consumer.consume()
        link.drain_events(timeout=2)
        consumer.cancel()
        assert client.llen("q") == 4


def test_a_requeued_message_comes_again_and_says_so(redis_url: str) -> None:
    send(redis_url, "q", 1)
    seen: list[bool] = []

    def take(_: Any, message: kombu.Message) -> None:
        seen.append(bool(message.delivery_info.get("redelivered")))
        message.requeue() if len(seen) == 1 else message.ack()

    with connection(redis_url) as link, link.Consumer([QUEUE], callbacks=[take]):
        wait_until(lambda: link.drain_events(timeout=2) or len(seen) == 2)
    assert seen == [False, True]


def test_a_message_requeued_without_end_becomes_a_casualty(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", 1)
    seen: list[int] = []

    def take(_: Any, message: kombu.Message) -> None:
        seen.append(1)
        message.requeue()

    with connection(redis_url) as link, link.Consumer([QUEUE], callbacks=[take]):
        with contextlib.suppress(TimeoutError):
            while True:
                link.drain_events(timeout=0.5)
        assert len(seen) == 3
    assert client.llen(KEYS.casualties) == 1


def test_a_rejected_message_is_kept_as_a_casualty(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", 1)
    with connection(redis_url) as link, link.Consumer([QUEUE], callbacks=[lambda _, message: message.reject()]):
        link.drain_events(timeout=2)
    assert client.llen(KEYS.casualties) == 1
    assert not client.exists("q")


def test_a_body_that_is_no_base64_is_kept_and_the_next_message_is_delivered(
    redis_url: str, client: redis.Redis
) -> None:
    client.lpush("q", b'{"body": "a", "headers": {}, "properties": {"body_encoding": "base64", "delivery_info": {}}}')
    client.lpush("q", b'{"body": "eA==", "headers": {}, "properties": {"body_encoding": "rot13", "delivery_info": {}}}')
    send(redis_url, "q", "sound")
    with connection(redis_url) as link:
        assert receive(link, 1) == ["sound"]
    assert client.llen(KEYS.casualties) == 2


def test_get_and_simple_queues_work(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", "first", "second", "third")
    with connection(redis_url) as link:
        channel = link.channel()
        message = QUEUE.bind(channel).get()
        assert message.payload == "first"
        message.ack()
        assert QUEUE.bind(channel).get(no_ack=True).payload == "second"
        with link.SimpleQueue("q") as simple:
            assert simple.get(timeout=2).payload == "third"
        assert QUEUE.bind(channel).get() is None
    assert client.llen("q") == 1  # the simple queue did not acknowledge


def test_the_size_of_a_queue_is_what_waits_in_it(redis_url: str) -> None:
    send(redis_url, "q", 1, 2)
    send(redis_url, "q", 3, priority=9)
    with connection(redis_url) as link:
        assert QUEUE.bind(link.channel()).queue_declare(passive=True).message_count == 3


def later(seconds: float = 60.0) -> dict[str, str]:
    return {"eta": (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()}


def test_purging_drops_ready_and_delayed_messages_of_this_queue_only(redis_url: str, client: redis.Redis) -> None:
    for queue in ("q", "other"):
        send(redis_url, queue, 1, 2)
        send(redis_url, queue, 3, headers=later())
    with connection(redis_url) as link:
        assert QUEUE.bind(link.channel()).purge() == 3
    assert client.llen("other") == 2
    assert client.zcard(KEYS.delayed) == client.hlen(KEYS.delayed_messages) == 1


def test_a_queue_with_an_expiry_expires(redis_url: str, client: redis.Redis) -> None:
    queue = kombu.Queue("brief", kombu.Exchange("brief"), routing_key="brief", expires=0.3)
    with connection(redis_url) as link, link.Producer() as producer:
        producer.publish(1, exchange=queue.exchange, routing_key="brief", declare=[queue])
        assert 0 < client.pttl("brief") <= 300
    wait_until(lambda: not client.exists("brief"), timeout=5)


def test_a_batch_of_publishes_keeps_delayed_messages_delayed(redis_url: str, client: redis.Redis) -> None:
    with connection(redis_url) as link, link.Producer() as producer, producer.batch():
        producer.publish("now", routing_key="q")
        producer.publish("later", routing_key="q", headers=later())
    assert client.llen("q") == 1
    assert client.zcard(KEYS.delayed) == 1


def test_a_key_prefix_stands_before_every_key(redis_url: str, client: redis.Redis) -> None:
    with connection(redis_url, global_keyprefix="tenant:") as link:
        with link.Producer() as producer:
            producer.publish(1, exchange=QUEUE.exchange, routing_key="q", declare=[QUEUE])
            producer.publish(2, exchange=QUEUE.exchange, routing_key="q", headers=later())
        assert client.llen("tenant:q") == 1
        assert receive(link, 1, ack=False) == [1]
        assert all(key.startswith(b"tenant:") for key in client.keys("*"))
    with connection(redis_url, STOCK, global_keyprefix="tenant:") as link:
        assert receive(link, 1) == [1]


def test_fanout_reaches_ours_and_stock(redis_url: str) -> None:
    exchange = kombu.Exchange("news", type="fanout")
    got: list[tuple[str, Any]] = []
    links = {name: connection(redis_url, name) for name in (OURS, STOCK)}
    consumers = [
        link.Consumer(
            [kombu.Queue(f"news.{index}", exchange)], callbacks=[lambda body, _, name=name: got.append((name, body))]
        )
        for index, (name, link) in enumerate(links.items())
    ]
    for consumer in consumers:
        consumer.consume()

    def drain() -> bool:
        for link in links.values():
            try:
                link.drain_events(timeout=0.05)
            except TimeoutError:
                continue
        return len(set(got)) == 4

    drain()
    for name in (OURS, STOCK):
        with connection(redis_url, name) as link, link.Producer() as producer:
            producer.publish(name, exchange=exchange, declare=[exchange])
    wait_until(drain, timeout=10)
    for link in links.values():
        link.close()


def test_publishing_into_a_black_hole_is_an_error_within_the_socket_timeout(redis_url: str) -> None:
    with RedisServer() as server, connection(server.url(), socket_timeout=0.5, socket_connect_timeout=0.5) as link:
        producer = link.Producer()
        producer.publish(1, routing_key="q")
        server.pause()
        began = time.monotonic()
        with pytest.raises(link.connection_errors):
            producer.publish(2, routing_key="q")
        assert time.monotonic() - began < 5
        server.resume()
        producer.publish(3, routing_key="q")


def test_publishing_reuses_one_client(redis_url: str) -> None:
    with connection(redis_url) as link:
        channel = link.channel()
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
