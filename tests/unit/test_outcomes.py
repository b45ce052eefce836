from __future__ import annotations

import dataclasses
import pickle
from datetime import timedelta

import pytest

from celery_platform.outcomes import (
    Buried,
    Call,
    Dead,
    Deferred,
    Discard,
    RetryAfter,
    Retrying,
    Skipped,
    Snooze,
    Verdict,
    seconds,
)
from celery_platform.outcomes import Succeeded as Done


@pytest.mark.parametrize(("duration", "expected"), [(3, 3.0), (0.5, 0.5), (timedelta(minutes=2), 120.0)])
def test_durations_are_seconds_or_timedeltas(duration, expected):
    assert seconds(duration) == expected
    assert isinstance(seconds(duration), float)


def test_the_attempt_counts_failures_and_not_deferrals():
    assert Call("1", "t").attempt == 1
    assert Call("1", "t", failures=2, deferrals=9, deliveries=4).attempt == 3


@pytest.mark.parametrize(
    "value", [Call("1", "t"), Done(1), Skipped("x"), Deferred(1, "x"), Retrying(1, OSError()), Buried("x", OSError())]
)
def test_calls_and_outcomes_are_frozen_and_slotted(value):
    first = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, first, None)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("verdict", [Snooze, RetryAfter])
def test_a_wait_may_be_zero_and_never_negative(verdict):
    assert verdict(0).delay == 0
    assert verdict(timedelta(seconds=90)).delay == 90
    with pytest.raises(ValueError, match="zero or more seconds, got -1"):
        verdict(-1)


@pytest.mark.parametrize("verdict", [Snooze(2, "shut"), RetryAfter(3, "busy"), Discard("old"), Dead("closed")])
def test_a_verdict_crosses_processes_as_itself(verdict):
    copy = pickle.loads(pickle.dumps(verdict))
    assert type(copy) is type(verdict)
    assert (copy.args, copy.reason) == (verdict.args, verdict.reason)
    assert isinstance(copy, Verdict)
