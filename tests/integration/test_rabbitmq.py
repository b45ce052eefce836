"""
RabbitMQ as the platform uses it: nothing published is nowhere, and nothing given up is dropped.
"""

from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from kombu import Exchange, Queue

from celery_platform.errors import PublishError
from celery_platform.routing import DEAD_EXCHANGE
from celery_platform.transport.publishing import Unroutable
from tests.integration.hostile_team import hostile_team
from tests.servers.redis import DATABASES
from tests.waiting import wait_until

PATIENCE = 60
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_numbers = itertools.count(1)


@pytest.fixture
def team(amqp_url, redis_server, tmp_path):
    number = DATABASES - 260 - next(_numbers)
    with redis_server.client(number) as client:
        client.flushdb()
    with hostile_team(tmp_path, amqp_url, redis_server.url(number), PLATFORM_PUBLISH_TIMEOUT="8") as one:
        yield one


def vhost_of(url):
    return url.rpartition("/")[2]


def arguments_of(rabbitmq_server, team, queue):
    return rabbitmq_server.api("GET", f"queues/{vhost_of(team.broker)}/{queue}")["arguments"]


def test_a_delayed_call_before_any_worker_ever_ran_arrives(team):
    calls = [
        team.tasks.neighbour.apply_async((1,), countdown=1),
        team.tasks.neighbour.apply_async((2,), countdown=0.2),
        team.tasks.neighbour.apply_async((3,), eta=datetime.now(UTC) + timedelta(seconds=2.5)),
        team.tasks.neighbour.apply_async((4,), eta=datetime.now(UTC) + timedelta(seconds=0.3)),
    ]
    team.deployment.worker("-c", "1")
    assert [call.get(timeout=PATIENCE) for call in calls] == [1, 2, 3, 4]
    assert sorted(team.notes()) == [f"neighbour {number}" for number in (1, 2, 3, 4)]


def test_a_call_to_a_queue_that_lost_its_binding_is_an_error(team, rabbitmq_server):
    team.tasks.neighbour.delay(1)
    vhost = vhost_of(team.broker)
    rabbitmq_server.api("DELETE", f"bindings/{vhost}/e/platform/q/default/default")
    with pytest.raises(Unroutable, match=r"hostile\.neighbour was not enqueued.*no queue for it") as caught:
        team.tasks.neighbour.delay(2)
    assert isinstance(caught.value, PublishError)
    team.tasks.neighbour.delay(3)  # declares and binds anew
    team.deployment.worker("-c", "1")
    wait_until(lambda: len(team.notes()) == 2, timeout=PATIENCE, what="the two calls that were enqueued")
    assert team.notes() == ["neighbour 1", "neighbour 3"]


def test_a_delayed_call_whose_exchange_was_deleted_is_an_error_and_the_next_one_arrives(team, rabbitmq_server):
    team.tasks.neighbour.apply_async((1,), countdown=1)
    rabbitmq_server.api("DELETE", f"exchanges/{vhost_of(team.broker)}/celery_delayed_27")
    with pytest.raises(PublishError, match="was not enqueued"):
        team.tasks.neighbour.apply_async((2,), countdown=1)
    team.tasks.neighbour.apply_async((3,), countdown=1)
    team.deployment.worker("-c", "1")
    wait_until(lambda: len(team.notes()) == 2, timeout=PATIENCE, what="the first and the third call")
    assert sorted(team.notes()) == ["neighbour 1", "neighbour 3"]


def test_a_rejected_call_is_a_dead_letter_with_its_body(team):
    worker = team.deployment.worker("-c", "1")
    call = team.tasks.refuser.delay("it")
    letter = team.letter(call.id)
    assert (letter.reason, letter.task, letter.queue) == ("rejected", "hostile.refuser", "default")
    assert set(letter.message) == {"raw", "headers", "properties"}
    assert letter.message["headers"]["id"] == call.id
    assert worker.alive


def test_a_call_that_expires_in_its_queue_is_a_dead_letter(team):
    call = team.tasks.neighbour.apply_async((1,), expires=1)
    team.tasks.neighbour.apply_async((2,))
    time_of_expiry = time.monotonic() + 1.5
    wait_until(lambda: time.monotonic() > time_of_expiry, what="the call to expire")
    team.deployment.worker("-c", "1")
    assert team.letter(call.id).reason == "expired"
    wait_until(lambda: team.notes() == ["neighbour 2"], timeout=PATIENCE, what="the other call alone")


def test_what_the_broker_gave_up_waits_until_the_store_is_back(team, redis_server, tmp_path):
    """
    The letter is written before the acknowledgement: without a store, nothing leaves the dead-letter queue.
    """
    with team.app.connection_for_write() as connection, connection.Producer() as producer:
        from celery_platform.transport.topology import dead_queue

        queue = dead_queue()
        producer.publish(
            json.dumps([[1], {}, {}]),
            exchange=Exchange(DEAD_EXCHANGE, type="fanout"),
            declare=[queue],
            headers={"id": "call-1", "task": "hostile.neighbour", "x-death": [{"reason": "delivery_limit"}]},
            content_type="application/json",
            content_encoding="utf-8",
        )
    nowhere = {"PLATFORM_STATE_URL": "redis://127.0.0.1:1/0", "PLATFORM_RESULT_URL": redis_server.url(1)}
    helpless = team.deployment.worker("-c", "1", environment=nowhere)
    helpless.wait_for_output("could not be drained")
    helpless.kill9()
    helpless.kill_group()
    assert team.letters() == []
    team.deployment.worker("-c", "1")
    assert team.letter("call-1").reason == "poison"


def test_the_queues_are_what_the_promises_need(team, rabbitmq_server):
    team.deployment.worker("-c", "1")
    arguments = arguments_of(rabbitmq_server, team, "default")
    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-delivery-limit"] == 3
    assert arguments["x-dead-letter-exchange"] == DEAD_EXCHANGE
    assert arguments_of(rabbitmq_server, team, "celery") in ({}, {"x-queue-type": "classic"})
    assert arguments_of(rabbitmq_server, team, DEAD_EXCHANGE)["x-queue-type"] == "quorum"


def test_an_existing_queue_of_another_kind_stops_the_worker_once_with_the_remedy(team):
    with team.app.connection_for_write() as connection:
        Queue("default", Exchange("default", type="direct"), routing_key="default")(connection.channel()).declare()
    worker = team.deployment.worker("-c", "1", wait=False)
    wait_until(lambda: not worker.alive, timeout=PATIENCE, what="the worker to give up")
    assert worker.process.returncode == 1
    said = worker.output()
    assert said.count("The queue 'default' exists on the broker") == 1
    assert "rabbitmqctl delete_queue default" in said
    assert "Traceback" not in said
    assert "guest:guest" not in said
    with pytest.raises(PublishError, match="The queue 'default' exists"):
        team.tasks.neighbour.delay(1)


def test_a_broker_that_takes_a_call_and_confirms_nothing_is_an_error_in_time(team, rabbitmq_server):
    team.tasks.neighbour.delay(1)
    rabbitmq_server.pause()
    started = time.monotonic()
    try:
        with pytest.raises(PublishError):
            team.tasks.neighbour.delay(2)
    finally:
        rabbitmq_server.resume()
    assert time.monotonic() - started < 8 + 4
