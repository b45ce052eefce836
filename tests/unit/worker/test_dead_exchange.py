"""
What becomes of a message that RabbitMQ gave up on.
"""

from __future__ import annotations

import base64

import pytest
from kombu.message import Message

from celery_platform.worker.dead_exchange import remains_of

TASKS = {"tasks.pay": object()}


def dead(body="[[1], {}, {}]", **headers):
    given = {"id": "call-1", "task": "tasks.pay", **headers}
    return Message(
        body=body,
        headers=given,
        content_type="application/json",
        content_encoding="utf-8",
        properties={"correlation_id": "call-1", "application_headers": given},
        delivery_info={"routing_key": "billing"},
    )


@pytest.mark.parametrize(
    ("said", "task", "reason"),
    [
        ("delivery_limit", "tasks.pay", "poison"),
        ("rejected", "tasks.pay", "rejected"),
        ("rejected", "tasks.gone", "unknown_task"),
        ("expired", "tasks.pay", "expired"),
        ("maxlen", "tasks.pay", "maxlen"),
    ],
)
def test_the_newest_death_gives_the_reason_and_the_queue(said, task, reason):
    deaths = [{"reason": said, "queue": "billing"}, {"reason": "expired", "queue": "celery_delayed_0"}]
    remains = remains_of(dead(task=task, **{"x-death": deaths, "x-delivery-count": 3}), TASKS)
    assert (remains.reason, remains.queue, remains.deliveries) == (reason, "billing", 4)


def test_the_letter_has_the_id_of_the_call_and_the_bytes_of_the_message():
    letter = remains_of(dead(body="ein Ü"), TASKS).letter(TASKS)
    assert letter.id == letter.call_id == "call-1"
    assert base64.b64decode(letter.message["raw"]) == "ein Ü".encode()
    assert letter.message["properties"] == {
        "correlation_id": "call-1",
        "content_type": "application/json",
        "content_encoding": "utf-8",
    }


@pytest.mark.parametrize("odd", [None, "text", [], ["text"], [{}], 7])
def test_a_header_of_deaths_that_says_nothing_is_a_rejection(odd):
    assert remains_of(dead(**{"x-death": odd}), TASKS).reason == "rejected"


@pytest.mark.parametrize("name", [None, "", 17, "x" * 300])
def test_without_an_id_the_same_bytes_are_the_same_letter(name):
    first, again, other = (remains_of(dead(body, id=name), {}).letter({}) for body in ("a", "a", "b"))
    assert first.id == again.id != other.id
