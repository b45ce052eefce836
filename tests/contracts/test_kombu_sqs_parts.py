"""
Our SQS transport is built on private parts of one minor version of kombu; a new one has to be read first.
"""

from __future__ import annotations

import inspect

import kombu.transport
import pytest
from kombu import Connection
from kombu.transport import SQS

from celery_platform.errors import ConfigurationError
from celery_platform.transport import sqs_scheme
from celery_platform.transport.sqs import Channel, Transport


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (SQS.Channel._put, ("queue", "message")),
        (SQS.Channel._get_from_sqs, ("queue_name", "queue_url", "connection", "count", "callback")),
        (SQS.Channel._receive_message, ("queue", "max_number_of_messages", "wait_time_seconds")),
        (SQS.Channel._on_messages_ready, ("queue", "qname", "messages")),
        (SQS.Channel._release_messages, ("queue", "qname", "messages")),
        (SQS.Channel._message_to_python, ("message", "queue_name", "q_url")),
        (SQS.Channel._envelope_payload, ("payload", "raw_text", "message", "q_url")),
        (SQS.Channel._prepare_json_payload, ("text",)),
        (SQS.Channel._new_release_client, ("client",)),
        (SQS.Channel.basic_reject, ("delivery_tag", "requeue")),
        (SQS.QoS.restore_unacked_once, ("stderr",)),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_the_overridden_parts_take_what_they_took(function: object, words: tuple[str, ...]) -> None:
    assert tuple(inspect.signature(function).parameters)[1 : len(words) + 1] == words


def test_installing_twice_is_installing_once() -> None:
    sqs_scheme.install()
    sqs_scheme.install()
    assert kombu.transport.get_transport_cls("sqs") is Transport


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqs_scheme, "_NEEDED", ("boto3", "gone_tomorrow"))
    with pytest.raises(ConfigurationError, match=r"needs gone_tomorrow\. Install celery-platform\[sqs\]"):
        sqs_scheme.install()


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("sqs://", None),
        ("sqs://key:secret@", None),
        ("sqs://key:secret@vpce-1.sqs.internal", "https://vpce-1.sqs.internal"),
        ("sqs://key:secret@127.0.0.1:4566", "http://127.0.0.1:4566"),
    ],
)
def test_only_this_machine_is_asked_without_tls(url: str, endpoint: str | None) -> None:
    channel = Channel.__new__(Channel)
    channel.connection = type("Transport", (), {"client": Connection(url)})()
    assert channel.endpoint_url == endpoint
