from __future__ import annotations

import pytest

from celery_platform.worker.broker_gaps import gaps_of_rabbitmq, gaps_of_sqs, version_of

HOUR = 3_600.0


@pytest.mark.parametrize(
    ("told", "version"), [("3.10.8", (3, 10)), ("4.1.0-rc.2", (4, 1)), ("", None), (b"odd", None), (None, None)]
)
def test_the_version_is_read_from_what_the_server_says(told, version):
    assert version_of({"version": told}) == version


def test_a_call_longer_than_the_consumer_timeout_is_told_of_where_no_queue_can_have_its_own():
    (finding,) = gaps_of_rabbitmq((3, 10), longest=HOUR, prioritised=())
    assert "RabbitMQ 3.10" in str(finding)
    assert "may run 3600 s" in str(finding)
    assert "Raise consumer_timeout" in finding.remedy
    assert list(gaps_of_rabbitmq((3, 12), longest=HOUR, prioritised=())) == []
    assert list(gaps_of_rabbitmq((3, 10), longest=600.0, prioritised=())) == []
    assert "without a limit" in str(next(gaps_of_rabbitmq((3, 10), longest=None, prioritised=())))


def test_priorities_that_have_no_effect_are_named():
    (finding,) = gaps_of_rabbitmq((3, 13), longest=60.0, prioritised=["a", "b", "c", "d", "e"])
    assert "those of a, b, c and 2 more have no effect" in str(finding)
    assert list(gaps_of_rabbitmq((4, 0), longest=60.0, prioritised=["a"])) == []


def test_a_rabbitmq_that_does_not_say_its_version_is_not_judged():
    assert list(gaps_of_rabbitmq(None, longest=None, prioritised=["a"])) == []


def test_of_sqs_everything_that_is_missing_is_told():
    told = " ".join(str(finding) for finding in gaps_of_sqs(longest=None, prioritised=["a"]))
    for word in ("remote control", "events", "priorities", "twelve hours"):
        assert word in told
    assert len(list(gaps_of_sqs(longest=HOUR, prioritised=()))) == 1
