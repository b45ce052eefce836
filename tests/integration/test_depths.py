"""
Queues are measured as they are, without taking anything from them, in a number of commands that no backlog changes.
"""

from __future__ import annotations

import time

import pytest
import redis

from celery_platform import Platform, platform_task
from celery_platform.celery_app import forget_platform
from celery_platform.transport.depths import QueueDepth, RedisDepths, depths_of
from celery_platform.transport.keys import TransportKeys
from tests.waiting import wait_until


@pytest.fixture
def platform(broker_url, redis_url):
    forget_platform()
    yield Platform(broker_url=broker_url, state_url=redis_url, queues=("billing", "empty"))
    forget_platform()


def test_depth_and_age_of_each_queue_and_what_is_delayed(platform):
    app = platform.app
    if platform.settings.broker_kind == "amqp":
        from celery_platform.transport import topology

        with app.connection_for_write() as connection:
            topology.declare(connection, app.amqp.queues.values())

    @platform_task(name="tasks.charge", queue="billing")
    def charge(number: int) -> None:
        """Never run here."""

    depths = depths_of(app)
    assert [one.depth for one in depths.read(platform.router.queues).queues] == [0, 0, 0, 0]
    before = time.time()
    for number, priority in enumerate(("low", "critical", None)):
        charge.apply_async((number,), priority=priority)
    charge.apply_async((4,), countdown=600)

    def measured():
        backlog = depths.read(platform.router.queues)
        return {one.name: one for one in backlog.queues}, backlog

    wait_until(lambda: measured()[0]["billing"].depth == 3, what="all calls to be queued")
    queues, backlog = measured()
    assert list(queues) == ["default", "billing", "empty", "celery"]
    assert (queues["empty"].depth, queues["empty"].oldest) == (0, 0.0)
    if platform.settings.broker_kind == "amqp":
        assert queues["billing"] == QueueDepth("billing", 3, None, 0)
        assert backlog.delayed is None
    else:
        assert 0 < queues["billing"].oldest <= time.time() - before + 1
        assert (backlog.delayed, backlog.overdue, backlog.leased, backlog.casualties) == (1, 0.0, 0, 0)
    forgotten = depths.read(["nobody.declared.this"]).queues
    assert [one.depth for one in forgotten] == [0]


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


def message(header):
    return f'{{"body": "W10=", "headers": {{"argsrepr": "{{\\"platform_ready_at\\": 1}}"{header}}}}}'


def test_the_text_of_an_argument_is_not_taken_for_the_age(client):
    client.lpush("billing", message(""))
    depths = RedisDepths(client, TransportKeys(), (0, 3))
    assert depths.read(["billing"]).queues == [QueueDepth("billing", 1, None)]
    client.rpush("billing", message(f', "platform_ready_at": {time.time() - 100:f}'))
    assert 99 < depths.read(["billing"]).queues[0].oldest < 110


def test_two_hundred_queues_with_a_million_calls_take_six_commands_and_a_tenth_of_a_second(client):
    queues = [f"q{number}" for number in range(200)]
    text = message(f', "platform_ready_at": {time.time():f}')
    fill = "for number = 0, 199 do for _ = 1, 50 do local b = {} for i = 1, 100 do b[i] = ARGV[1] end "
    client.eval(f"{fill} redis.call('LPUSH', 'q' .. number, unpack(b)) end end", 0, text)
    depths = RedisDepths(client, TransportKeys(), (0, 3, 6, 8, 9))
    depths.read(queues)
    before = client.info("commandstats")
    started = time.perf_counter()
    backlog = depths.read(queues)
    took = time.perf_counter() - started
    after = client.info("commandstats")
    assert sum(one.depth for one in backlog.queues) == 1_000_000
    asked = ("evalsha", "zcard", "zrange", "llen", "zcount", "hlen")
    sent = sum(after.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in asked if name != "llen")
    sent -= sum(before.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in asked if name != "llen")
    assert sent <= 6
    assert took <= 0.1
