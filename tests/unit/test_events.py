from __future__ import annotations

import dataclasses
import logging

import pytest

from celery_platform import events
from celery_platform.events import CallSucceeded, emit, listening, subscribe, unsubscribe

EVENT = CallSucceeded(call_id="1", task="tasks.pay", attempt=1, runtime=0.5)


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch):
    monkeypatch.setattr(events, "_hooks", ())


def test_every_hook_gets_every_event_in_order():
    seen = []
    hooks = [lambda event, n=n: seen.append((n, event)) for n in range(3)]
    for hook in hooks:
        subscribe(hook)
    emit(EVENT)
    assert seen == [(0, EVENT), (1, EVENT), (2, EVENT)]


def test_a_broken_hook_is_logged_and_the_others_still_hear(caplog):
    seen = []

    def broken(event):
        raise RuntimeError("my sink is full")

    subscribe(broken)
    subscribe(seen.append)
    with caplog.at_level(logging.ERROR, "celery_platform.events"):
        emit(EVENT)
    assert seen == [EVENT]
    assert "my sink is full" in caplog.text
    assert "CallSucceeded" in caplog.text


def test_a_hook_is_subscribed_once_and_can_leave():
    seen = []
    hook = seen.append.__call__
    subscribe(hook)
    subscribe(hook)
    emit(EVENT)
    unsubscribe(hook)
    unsubscribe(hook)
    emit(EVENT)
    assert seen == [EVENT]


def test_an_empty_room_is_known_to_be_empty():
    def hook(event):
        pass

    assert not listening()
    subscribe(hook)
    assert listening()
    unsubscribe(hook)
    assert not listening()


def test_a_hook_may_leave_while_it_is_told():
    seen = []

    def once(event):
        seen.append(event)
        unsubscribe(once)

    subscribe(once)
    subscribe(lambda _: seen.append("other"))
    emit(EVENT)
    emit(EVENT)
    assert seen == [EVENT, "other", "other"]


def test_an_event_is_frozen_and_knows_when_it_happened():
    assert EVENT.at > 1_700_000_000
    with pytest.raises(dataclasses.FrozenInstanceError):
        EVENT.task = "other"
