"""
Amazon SQS as a broker: calls, waits, deaths and bad messages end as they do on the other brokers.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from celery_platform.errors import PublishError
from tests.integration.hostile_team import hostile_team
from tests.servers import SqsServer
from tests.servers.redis import DATABASES
from tests.servers.sqs import CREDENTIALS
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60
LEASE = 3
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def sqs_server() -> Iterator[SqsServer]:
    with SqsServer() as server:
        yield server


@pytest.fixture(scope="module")
def working(sqs_server, redis_server, tmp_path_factory):
    """
    A team with one worker, for the tests that leave it alive.
    """
    sqs_server.clear()
    with redis_server.client(DATABASES - 300) as client:
        client.flushdb()
    with hostile_team(
        tmp_path_factory.mktemp("sqs"),
        sqs_server.url(),
        redis_server.url(DATABASES - 300),
        module="cloudy",
        PLATFORM_QUEUES="orders.fifo",
        PLATFORM_LEASE=str(LEASE),
        **CREDENTIALS,
    ) as one:
        one.worker = one.deployment.worker("-c", "2")
        yield one


def began(team, text):
    return [line for line in team.notes() if line.startswith(text)]


def test_calls_run_and_results_come_back(working):
    calls = [working.tasks.add.delay(number, 1) for number in range(10)]
    assert [call.get(timeout=PATIENCE) for call in calls] == [number + 1 for number in range(10)]
    assert working.tasks.plain.delay(4).get(timeout=PATIENCE) == 8


def test_a_plain_producer_reaches_the_worker_through_the_plain_queue(working):
    assert working.app.send_task("cloudy.plain", (21,), queue="celery").get(timeout=PATIENCE) == 42


def test_a_retry_a_deferral_and_a_duplicate_end_as_on_every_broker(working):
    retried = working.tasks.twice.delay("a")
    alone = [working.tasks.alone.delay(number) for number in range(3)]
    first, second = working.tasks.once.delay("same"), working.tasks.once.delay("same")
    assert retried.get(timeout=PATIENCE) == 2
    for call in alone:
        call.get(timeout=PATIENCE)
    notes = [line.split()[0] for line in working.notes() if line.startswith(("begin", "end"))]
    assert notes == ["begin", "end"] * 3
    assert second.is_duplicate
    assert second.id == first.id
    first.get(timeout=PATIENCE)
    assert began(working, "once") == ["once same"]


def test_a_delayed_call_waits_at_the_broker_and_comes_in_time(working):
    asked = time.time()
    call = working.tasks.add.apply_async((100, 1), countdown=2)
    assert call.get(timeout=PATIENCE) == 101
    (line,) = began(working, "add 100 1")
    late = float(line.split()[-1]) - asked - 2
    assert 0 <= late < 3


def test_what_fails_is_refused_or_is_unknown_becomes_a_dead_letter(working):
    failed, refused = working.tasks.broken.delay("it"), working.tasks.refuser.delay("it")
    gone = working.app.send_task("cloudy.gone", (1,), queue="default")
    assert working.letter(failed.id).group.startswith("RuntimeError")
    assert working.letter(refused.id).reason == "rejected"
    assert working.letter(gone.id).reason == "unknown_task"
    with pytest.raises(Exception, match=r"cloudy\.gone"):
        gone.get(timeout=PATIENCE)
    assert_empty(working, "default")


def test_a_call_longer_than_its_visibility_runs_once(working):
    call = working.tasks.slow.delay("long", LEASE * 1.7)
    call.get(timeout=PATIENCE)
    assert began(working, "slow long") == ["slow long"]
    assert_empty(working, "default")


def test_a_call_whose_process_dies_each_time_is_a_dead_letter_and_its_neighbours_run(working):
    call = working.tasks.pill.delay("p")
    assert working.letter(call.id).reason == "poison"
    assert len(began(working, "pill p")) == 3
    assert working.tasks.add.delay(7, 7).get(timeout=PATIENCE) == 14


BAD = {
    "no JSON": "\x7fnot json",
    "a list": "[1, 2]",
    "no properties": '{"body": "x"}',
    "properties that are none": '{"body": "x", "properties": 5}',
    "a body that is none": '{"body": {"a": 1}, "properties": {}}',
    "a body that is no base64": '{"body": "a", "properties": {"body_encoding": "base64"}, "headers": {"task": "t"}}',
    "headers that are none": '{"body": "x", "properties": {}, "headers": 3}',
    "a type that kombu cannot restore": '{"body": "x", "properties": {"a": {"__type__": "uuid", "__value__": 3}}}',
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_message_becomes_a_dead_letter_and_the_worker_goes_on(working, sqs_server, name):
    before = {letter.id for letter in working.letters()}
    client = sqs_server.client()
    client.send_message(QueueUrl=client.get_queue_url(QueueName="default")["QueueUrl"], MessageBody=BAD[name])
    new = wait_until(
        lambda: [letter for letter in working.letters() if letter.id not in before], timeout=PATIENCE, what="a letter"
    )
    assert [letter.reason for letter in new] in (["undecodable"], ["invalid"])
    assert new[0].message["raw"]
    assert working.tasks.add.delay(1, 1).get(timeout=PATIENCE) == 2
    assert working.worker.alive


def test_calls_of_one_fifo_group_keep_their_order_and_their_group(working):
    words = {"queue": "orders.fifo", "MessageGroupId": "account-1"}
    calls = [working.tasks.add.apply_async((200 + number, 1), **words) for number in range(3)]
    retried = working.tasks.twice.apply_async(("fifo",), **words)
    for call in calls:
        call.get(timeout=PATIENCE)
    ran = [line.split()[1] for line in began(working, "add 20")]
    assert ran == ["200", "201", "202"]
    assert retried.get(timeout=PATIENCE) == 2


def test_a_call_that_sqs_refuses_is_an_error_and_nothing_was_enqueued(working):
    with pytest.raises(PublishError, match="was not enqueued"):
        working.tasks.add.apply_async((1, 2), headers={"x": "y" * 1_100_000})


def test_remote_control_is_not_asked_and_makes_no_queues(working, sqs_server):
    call = working.tasks.slow.delay("to cancel", 2)
    wait_until(lambda: began(working, "slow to cancel"), timeout=PATIENCE, what="the call to run")
    said = working.deployment.celery("cancel", call.id, "--json")
    assert said.returncode in (0, 1), said.stderr
    names = {url.rpartition("/")[2] for url in sqs_server.client().list_queues()["QueueUrls"]}
    assert names == {"default", "celery", "orders.fifo"}
    wait_until(call.ready, timeout=PATIENCE, what="the call to end")


def assert_empty(team, queue):
    with team.app.connection_for_read() as connection:
        channel = connection.channel()
        wait_until(lambda: channel._size(queue) == 0, what=f"an empty {queue}")
