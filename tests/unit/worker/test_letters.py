"""
What a dead letter shows of a message that never became a call.
"""

from __future__ import annotations

from types import SimpleNamespace

from celery_platform.headers import ENQUEUED_AT
from celery_platform.worker.letters import Remains


def letter(private, **headers):
    tasks = {"tasks.login": SimpleNamespace(contract=SimpleNamespace(private=private))}
    given = {"id": "call-1", "task": "tasks.login", "argsrepr": "('tulip',)", "kwargsrepr": "{}", **headers}
    return Remains(reason="poison", error="x" * 5000, queue="default", raw=b"{", headers=given).letter(tasks)


def test_the_texts_that_a_plain_producer_wrote_of_private_arguments_are_not_shown():
    assert "tulip" not in str(letter(["password"]).listing())
    assert letter([]).argsrepr == "('tulip',)"


def test_the_texts_that_the_platform_masked_are_shown():
    assert letter(["password"], argsrepr="(***,)", **{ENQUEUED_AT: 1.0}).argsrepr == "(***,)"


def test_an_error_is_kept_to_a_length_that_can_be_listed():
    assert len(letter([]).error) == 1024
