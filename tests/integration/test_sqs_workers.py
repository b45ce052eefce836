"""
What becomes of the calls of SQS workers that end, well or badly; and delays longer than SQS knows.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from kombu import Connection, Queue

from tests.integration.hostile_team import hostile_team
from tests.servers import SqsServer
from tests.servers.redis import DATABASES
from tests.servers.sqs import CREDENTIALS
from tests.waiting import wait_until

PATIENCE = 60
LEASE = 3
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def sqs_server():
    with SqsServer() as server:
        yield server


@pytest.fixture
def connection(sqs_server):
    from celery_platform.transport import sqs_scheme

    sqs_scheme.install()
    options = {"region": "us-east-1", "wait_time_seconds": 1, "sqs_base64_encoding": False, "lease": LEASE}
    sqs_server.clear()
    with Connection(sqs_server.url(), transport_options=options) as one:
        yield one


def began(team, text):
    return [line for line in team.notes() if line.startswith(text)]


def drained(connection, queue, seconds, *, stop=False):
    """
    Return the messages of *queue* that come within *seconds*, each with its time; with *stop* only the first.
    """
    came = []
    with connection.Consumer(Queue(queue), callbacks=[lambda _, message: came.append((time.time(), message))]):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (stop and came):
            try:
                connection.drain_events(timeout=0.5)
            except TimeoutError:
                continue
    return came


def publish(connection, queue, due, **properties):
    eta = datetime.fromtimestamp(due, UTC).isoformat()
    connection.Producer().publish(
        [[], {}, {}], routing_key=queue, declare=[Queue(queue)], headers={"eta": eta}, **properties
    )


def test_a_delay_longer_than_sqs_knows_is_served_in_parts_and_the_message_comes_once(connection, monkeypatch):
    monkeypatch.setattr("celery_platform.transport.sqs._LONGEST_DELAY", 1)
    due = time.time() + 4
    publish(connection, "default", due)
    ((came, message),) = drained(connection, "default", 6.5)
    assert due - 1 <= came <= due + 2.5
    assert message.properties["platform_deaths"] == 0
    message.ack()


def test_a_delayed_message_of_a_fifo_queue_is_hidden_until_it_is_due(connection):
    due = time.time() + 3
    publish(connection, "orders.fifo", due, MessageGroupId="g")
    ((came, message),) = drained(connection, "orders.fifo", 20, stop=True)
    assert due - 1 <= came <= due + 2
    assert message.properties["platform_deaths"] == 0
    message.ack()


def test_a_served_delay_is_not_served_again_by_a_worker_whose_clock_is_behind(connection):
    publish(connection, "default", time.time() + 1)
    ((_, message),) = drained(connection, "default", 20, stop=True)
    assert message.headers["eta"] is None
    message.ack()


def test_giving_back_is_no_death_and_dying_is_one(connection):
    connection.Producer().publish([[], {}, {}], routing_key="default", declare=[Queue("default")])
    ((_, first),) = drained(connection, "default", 20, stop=True)
    first.channel.give_back(first._raw, blamed=False)
    first.channel.qos.ack(first.delivery_tag)
    ((_, second),) = drained(connection, "default", 20, stop=True)
    assert second.properties["platform_deaths"] == 0
    second.requeue()
    ((_, third),) = drained(connection, "default", 20, stop=True)
    assert third.properties["platform_deaths"] == 1
    third.channel.visibility.release(third.delivery_tag)  # as if this process had died
    third.channel.qos.ack(third.delivery_tag)
    ((_, fourth),) = drained(connection, "default", 20, stop=True)
    assert fourth.properties["platform_deaths"] == 2
    fourth.ack()


def test_the_calls_of_a_killed_worker_run_elsewhere_and_those_of_a_stopped_one_at_once(
    sqs_server, redis_server, tmp_path
):
    sqs_server.clear()
    number = DATABASES - 301
    with redis_server.client(number) as client:
        client.flushdb()
    settings = {"PLATFORM_LEASE": str(LEASE), **CREDENTIALS}
    with hostile_team(tmp_path, sqs_server.url(), redis_server.url(number), module="cloudy", **settings) as team:
        first = team.deployment.worker("-c", "1")
        call = team.tasks.slow.delay("killed", 1)
        wait_until(lambda: began(team, "slow killed"), timeout=PATIENCE, what="the call to run")
        first.kill_group()
        died = time.monotonic()
        second = team.deployment.worker("-c", "1")
        call.get(timeout=PATIENCE)
        assert time.monotonic() - died < LEASE + 15
        assert len(began(team, "slow killed")) == 2

        running = team.tasks.slow.delay("finishing", 2)
        wait_until(lambda: began(team, "slow finishing"), timeout=PATIENCE, what="the call to run")
        waiting = [team.tasks.add.delay(number, 1) for number in range(3)]
        second.stop(timeout=40)
        assert running.get(timeout=PATIENCE) is None
        team.deployment.worker("-c", "1")
        assert [call.get(timeout=PATIENCE) for call in waiting] == [1, 2, 3]
        assert len(began(team, "add")) == 3
        assert len(began(team, "slow finishing")) == 1
