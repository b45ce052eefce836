from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_platform.backoff import Backoff, retry_after_of
from celery_platform.errors import PayloadInvalid, PolicyError
from celery_platform.outcomes import Call

JITTERS = ("none", "full", "equal", "decorrelated")
NOW = 1_700_000_000.0

# Thirty waits of `first=1, factor=2, ceiling=600` with `random.Random(7)`.
GOLDEN = {"none": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 600.0, 600.0, 600.0, 600.0,
          600.0, 600.0, 600.0, 600.0, 600.0, 600.0, 600.0, 600.0, 600.0, 600.0, 600.0, 600.0, 600.0,
          600.0, 600.0, 600.0],
 "full": [0.391, 0.387, 2.639, 0.672, 8.621, 11.765, 3.806, 65.001, 9.695, 222.083, 42.006, 54.519,
          254.769, 496.129, 74.369, 134.021, 376.497, 568.631, 346.304, 238.069, 585.755, 28.045,
          515.095, 173.837, 86.639, 70.764, 185.158, 489.694, 108.518, 349.002],
 "equal": [0.662, 1.151, 3.302, 4.29, 12.287, 21.851, 33.856, 96.476, 132.799, 367.013, 320.957,
           327.214, 427.356, 548.056, 337.141, 366.972, 488.23, 584.313, 473.131, 419.004, 592.877,
           313.975, 557.541, 386.883, 343.277, 335.338, 392.545, 544.838, 354.218, 474.48],
 "decorrelated": [1.648, 1.595, 3.463, 1.68, 3.165, 4.107, 1.657, 3.014, 1.302, 2.26, 1.404, 1.291,
                  2.22, 5.68, 2.986, 2.776, 5.599, 15.97, 28.071, 34.009, 99.63, 14.876, 38.454,
                  34.121, 15.622, 6.403, 6.617, 16.384, 9.703, 17.347]}  # fmt: skip


def waits(jitter, attempts=31):
    return [round(wait, 3) for wait in Backoff(on=OSError, attempts=attempts, jitter=jitter).schedule(random.Random(7))]


@pytest.mark.parametrize("jitter", JITTERS)
def test_thirty_waits_are_exactly_these(jitter):
    assert waits(jitter) == GOLDEN[jitter]


@pytest.mark.parametrize("jitter", JITTERS)
@settings(deadline=None)  # a loaded machine takes its time
@given(
    first=st.floats(0.001, 1e4),
    factor=st.floats(0.1, 100),
    floor=st.floats(0.001, 100),
    above=st.floats(0, 1e5),
    failures=st.integers(1, 10_000),
    told=st.fixed_dictionaries({"previous": st.none() | st.floats(0, 1e6), "asked": st.none() | st.floats(0, 1e9)}),
    seed=st.integers(),
)
def test_every_wait_lies_between_floor_and_ceiling(jitter, first, factor, floor, above, failures, told, seed):
    backoff = Backoff(on=OSError, first=first, factor=factor, floor=floor, ceiling=floor + above, jitter=jitter)
    wait = backoff.delay(failures, **told, rng=random.Random(seed))
    assert 0 < floor <= wait <= floor + above


def test_a_task_that_is_never_seeded_still_gets_different_waits():
    backoff = Backoff(on=OSError, first=100, ceiling=100_000, jitter="full")
    assert len({backoff.delay(8) for _ in range(20)}) > 1


def test_an_asked_wait_wins_over_the_computed_one():
    assert Backoff(on=OSError, jitter="none").delay(9, asked=17) == 17


def test_an_asked_wait_gets_up_to_a_tenth_on_top():
    spread = {Backoff(on=OSError).delay(1, asked=100, rng=random.Random(seed)) for seed in range(50)}
    assert 100 <= min(spread) < max(spread) <= 110


@pytest.mark.parametrize(("asked", "wait"), [(0, 2), (1_000_000, 50)])
def test_an_asked_wait_is_clamped(asked, wait):
    assert Backoff(on=OSError, floor=2, ceiling=50, jitter="none").delay(1, asked=asked) == wait


def test_the_first_rule_that_matches_wins():
    narrow, wide = Backoff(on=ConnectionResetError, attempts=8), Backoff(on=OSError, attempts=2)
    assert (narrow | wide).rule_for(ConnectionResetError()).attempts == 8
    assert (narrow | wide).rule_for(FileNotFoundError()).attempts == 2
    assert (wide | narrow).rule_for(ConnectionResetError()).attempts == 2


def test_three_rules_keep_their_order():
    rules = Backoff(on=KeyError) | Backoff(on=ValueError) | Backoff(on=LookupError)
    assert [rule.on for rule in rules.rules()] == [KeyError, ValueError, LookupError]


def test_an_error_that_no_rule_names_is_not_retried():
    assert (Backoff(on=KeyError) | Backoff(on=ValueError)).rule_for(OSError()) is None


def test_a_predicate_can_pass_the_error_on_to_the_next_rule():
    rules = Backoff(on=OSError, when=lambda error: error.errno == 5, attempts=9) | Backoff(on=OSError, attempts=2)
    assert rules.rule_for(OSError(5, "io")).attempts == 9
    assert rules.rule_for(OSError(6, "io")).attempts == 2


def test_a_payload_that_breaks_its_contract_is_never_retried():
    assert Backoff(on=Exception).rule_for(PayloadInvalid("t", ["x"], "run")) is None


@pytest.mark.parametrize(
    ("failures", "first_failed_at", "exhausted"),
    [(0, None, False), (1, NOW - 10, False), (2, NOW - 10, True), (1, NOW - 60, True), (1, NOW - 59, False)],
)
def test_attempts_and_time_both_bound_a_call(failures, first_failed_at, exhausted):
    backoff = Backoff(on=OSError, attempts=3, within=60)
    assert backoff.exhausted(Call("1", "t", failures=failures, first_failed_at=first_failed_at), NOW) is exhausted


def test_without_a_time_budget_only_attempts_count():
    call = Call("1", "t", failures=1, first_failed_at=NOW - 10**9)
    assert not Backoff(on=OSError, attempts=3, within=None).exhausted(call, NOW)


class _Answer:
    def __init__(self, value):
        self.headers = {"Retry-After": value}


def _failing(*, retry_after=None, header=None):
    error = OSError("busy")
    if retry_after is not None:
        error.retry_after = retry_after
    if header is not None:
        error.response = _Answer(header)
    return error


def _date(seconds):
    return format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (_failing(header="120"), 120),
        (_failing(header=" 7 "), 7),
        (_failing(header=_date(90)), 90),
        (_failing(header=_date(-90)), 0),
        (_failing(header="soon"), None),
        (_failing(header="-5"), None),
        (_failing(header=""), None),
        (_failing(header=None), None),
        (_failing(retry_after=3), 3),
        (_failing(retry_after=-3), 0),
        (_failing(retry_after=timedelta(minutes=2)), 120),
        (_failing(retry_after="30"), 30),
        (_failing(retry_after=1, header="120"), 1),
        (_failing(retry_after=True), None),
        (_failing(retry_after=object()), None),
    ],
    ids=str,
)
def test_retry_after_is_read_as_seconds_or_as_a_date(error, asked):
    assert retry_after_of(error, NOW) == asked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"on": "OSError"}, "on=…"),
        ({"on": ()}, "on=…"),
        ({"on": OSError()}, "on=…"),
        ({"attempts": 0}, "whole number from 1"),
        ({"attempts": True}, "whole number from 1"),
        ({"attempts": 2.5}, "whole number from 1"),
        ({"jitter": "ful"}, "Did you mean 'full'"),
        ({"first": 0}, "first"),
        ({"factor": -1}, "factor"),
        ({"floor": 0}, "floor"),
        ({"ceiling": timedelta(0)}, "ceiling"),
        ({"within": 0}, "within"),
        ({"first": "1"}, "first"),
        ({"first": float("nan")}, "first"),
        ({"ceiling": float("inf")}, "ceiling"),
        ({"factor": 101}, "at most 100"),
        ({"floor": 10, "ceiling": 5}, "Lower the floor or raise the ceiling"),
    ],
    ids=str,
)
def test_a_rule_that_cannot_work_is_refused(words, message):
    with pytest.raises(PolicyError, match=message):
        Backoff(**{"on": OSError, **words})


def test_a_retry_policy_cannot_be_changed():
    with pytest.raises(AttributeError):
        Backoff(on=OSError).attempts = 9
