from __future__ import annotations

import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_platform.backoff import Backoff
from celery_platform.clock import FrozenClock
from celery_platform.errors import PayloadInvalid
from celery_platform.execution import AttemptTimedOut, DeadlineExceeded, execute, is_order
from celery_platform.headers import DEFERRALS, FAILURES, counters_after
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
    Succeeded,
    Verdict,
)

NOW = 1_700_000_000.0
QUICKLY = Backoff(on=OSError, attempts=3, first=2, ceiling=100, floor=1, jitter="none", within=60)


def call(**words):
    return Call("id-1", "tasks.pay", **words)


def raising(error):
    def body():
        raise error

    return body


def returning(value):
    return lambda: value


def run(body, *, backoff=QUICKLY, clock=None, admission=None, **words):
    return execute(call(**words), body, backoff=backoff, clock=clock or FrozenClock(NOW), admission=admission)


class Door:
    """An admission that answers *answer* and writes down what it is asked and told."""

    def __init__(self, answer="ticket", final=None):
        self.answer = answer
        self.final = final
        self.log = []

    def admit(self, _):
        self.log.append("admit")
        return self.answer

    def settle(self, _, ticket, outcome):
        self.log.append(("settle", ticket, outcome))
        return self.final or outcome


def test_a_body_that_returns_has_succeeded():
    assert run(returning(5)) == Succeeded(5)
    assert run(returning(None), backoff=None) == Succeeded(None)


def test_a_failure_with_a_rule_is_tried_again():
    error = OSError("gone")
    assert run(raising(error)) == Retrying(2, error)
    assert run(raising(error), failures=1, first_failed_at=NOW - 2) == Retrying(4, error)


def test_a_failure_on_the_last_attempt_is_buried():
    error = OSError("gone")
    assert run(raising(error), failures=2, first_failed_at=NOW - 6) == Buried("exhausted", error)


def test_a_failure_after_the_time_budget_is_buried():
    error = OSError("gone")
    assert run(raising(error), failures=1, first_failed_at=NOW - 60) == Buried("exhausted", error)
    assert run(raising(error), failures=1, first_failed_at=NOW - 59) == Retrying(4, error)


def test_a_failure_without_a_rule_is_rejected():
    error = KeyError("x")
    assert run(raising(error)) == Buried("rejected", error)


def test_a_failure_without_a_policy_is_exhausted_at_once():
    error = KeyError("x")
    assert run(raising(error), backoff=None) == Buried("exhausted", error)


def test_a_broken_contract_is_buried_as_invalid_whatever_the_policy():
    error = PayloadInvalid("tasks.pay", ["x"], "run")
    assert run(raising(error), backoff=Backoff(on=Exception)) == Buried("invalid", error)


def test_a_timeout_is_tried_again_when_a_rule_names_it_and_buried_as_timeout_else():
    error = AttemptTimedOut("tasks.pay", 3)
    again = Backoff(on=TimeoutError, attempts=2, first=2, jitter="none")
    assert run(raising(error), backoff=again) == Retrying(2, error)
    assert run(raising(error), backoff=again, failures=1) == Buried("timeout", error)
    assert run(raising(error), backoff=None) == Buried("timeout", error)
    assert run(raising(error), backoff=Backoff(on=KeyError)) == Buried("timeout", error)
    assert str(error) == "tasks.pay ran longer than its timeout of 3 s."


def test_an_error_that_asks_for_a_wait_gets_it_unless_the_rule_does_not_honour_it():
    error = OSError("busy")
    error.retry_after = 33
    assert run(raising(error)) == Retrying(33, error)
    deaf = Backoff(on=OSError, first=2, jitter="none", honour_retry_after=False)
    assert run(raising(error), backoff=deaf) == Retrying(2, error)


def test_decorrelated_waits_build_on_the_last_one():
    backoff = Backoff(on=OSError, first=1, ceiling=10_000, jitter="decorrelated")
    waits = [run(raising(OSError()), backoff=backoff, failures=1, previous_delay=1_000).delay for _ in range(200)]
    assert min(waits) >= 1
    assert 1_000 < max(waits) <= 3_000


@pytest.mark.parametrize("speak", [raising, returning], ids=["raised", "returned"])
class TestVerdicts:
    def test_snooze_defers(self, speak):
        assert run(speak(Snooze(7, "not open"))) == Deferred(7, "not open")

    def test_discard_skips(self, speak):
        assert run(speak(Discard("cancelled"))) == Skipped("cancelled", discarded=True)

    def test_dead_buries_whatever_attempts_are_left(self, speak):
        verdict = Dead("closed")
        assert run(speak(verdict)) == Buried("rejected", verdict)

    def test_retry_after_spends_an_attempt_and_sets_the_wait(self, speak):
        verdict = RetryAfter(30)
        assert run(speak(verdict)) == Retrying(30, verdict)

    def test_retry_after_keeps_to_floor_and_ceiling(self, speak):
        assert run(speak(RetryAfter(0))).delay == 1
        assert run(speak(RetryAfter(10**6))).delay == 100

    def test_retry_after_keeps_to_the_budgets(self, speak):
        verdict = RetryAfter(1)
        assert run(speak(verdict), failures=2) == Buried("exhausted", verdict)
        assert run(speak(verdict), failures=1, first_failed_at=NOW - 61) == Buried("exhausted", verdict)

    def test_retry_after_without_a_policy_is_buried(self, speak):
        verdict = RetryAfter(1)
        assert run(speak(verdict), backoff=None) == Buried("exhausted", verdict)

    def test_a_verdict_nobody_knows_is_a_programming_error(self, speak):
        class Maybe(Verdict):
            pass

        with pytest.raises(TypeError, match="Maybe"):
            run(speak(Maybe()))


@pytest.mark.parametrize("ready", [Retrying(0, OSError()), Skipped("signalled")])
def test_a_ready_outcome_of_the_engine_passes_through(ready):
    assert run(returning(ready)) is ready


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_not_an_outcome(error):
    with pytest.raises(error):
        run(raising(error()))


class TestDeadline:
    def test_a_call_that_comes_too_late_never_runs(self):
        door = Door()
        outcome = run(pytest.fail, deadline=NOW - 1, failures=2, deferrals=5, admission=door)
        assert isinstance(outcome.error, DeadlineExceeded)
        assert outcome.reason == "deadline"
        assert str(outcome.error) == ("tasks.pay[id-1] could not end before its deadline (attempts 2, deferrals 5).")
        assert door.log == []

    def test_a_call_at_its_deadline_still_runs(self):
        assert run(returning(1), deadline=NOW) == Succeeded(1)

    def test_a_success_after_the_deadline_stays_a_success(self):
        clock = FrozenClock(NOW)

        def slow():
            clock.advance(100)
            return "done"

        assert run(slow, clock=clock, deadline=NOW + 1) == Succeeded("done")

    def test_a_retry_that_would_start_too_late_is_buried_with_its_cause(self):
        error = OSError("gone")
        outcome = run(raising(error), deadline=NOW + 1.9)
        assert outcome.reason == "deadline"
        assert outcome.error.__cause__ is error
        assert run(raising(error), deadline=NOW + 2) == Retrying(2, error)

    def test_a_snooze_past_the_deadline_is_buried(self):
        assert run(raising(Snooze(10)), deadline=NOW + 9).reason == "deadline"
        assert run(raising(Snooze(10)), deadline=NOW + 10) == Deferred(10, "snoozed")

    def test_a_guard_that_defers_past_the_deadline_buries_the_call(self):
        assert run(pytest.fail, deadline=NOW + 9, admission=Door(Deferred(10, "limit"))).reason == "deadline"

    def test_time_that_the_body_took_counts(self):
        clock = FrozenClock(NOW)

        def slow():
            clock.advance(5)
            raise Snooze(5)

        assert run(slow, clock=clock, deadline=NOW + 9).reason == "deadline"


class TestAdmission:
    @pytest.mark.parametrize("refusal", [Skipped("known", value=4), Deferred(3, "limit"), Buried("x", OSError())])
    def test_a_refusal_is_the_outcome_and_the_body_never_runs(self, refusal):
        door = Door(refusal)
        assert run(pytest.fail, admission=door) == refusal
        assert door.log == ["admit"]

    @pytest.mark.parametrize(
        "body",
        [returning(1), raising(OSError("gone")), raising(KeyError()), raising(Snooze(1)), raising(Discard("no"))],
    )
    def test_an_admitted_call_is_settled_exactly_once_after_the_body(self, body):
        door = Door("the ticket")

        def watched():
            door.log.append("body")
            return body()

        outcome = run(watched, admission=door)
        assert door.log == ["admit", "body", ("settle", "the ticket", outcome)]

    def test_the_settled_outcome_is_the_final_one(self):
        assert run(returning(1), admission=Door(final=Skipped("fenced"))) == Skipped("fenced")

    def test_a_retry_past_the_deadline_is_settled_as_buried(self):
        door = Door()
        outcome = run(raising(OSError()), deadline=NOW + 1, admission=door)
        assert door.log[-1] == ("settle", "ticket", outcome)
        assert outcome.reason == "deadline"


@settings(deadline=None)  # a loaded machine takes its time
@given(
    answers=st.lists(st.sampled_from(["snooze", "guard", "fail"]), max_size=40),
    attempts=st.integers(1, 6),
    seed=st.integers(),
)
def test_a_deferral_never_spends_an_attempt(answers, attempts, seed):
    backoff = Backoff(on=OSError, attempts=attempts, first=1, jitter="full", within=None)
    clock = FrozenClock(NOW)
    current = call()
    failed = deferred = 0
    for answer in answers:
        bodies = {"snooze": raising(Snooze(1)), "fail": raising(OSError()), "guard": pytest.fail}
        door = Door(Deferred(1, "limit")) if answer == "guard" else None
        outcome = execute(current, bodies[answer], backoff=backoff, clock=clock, admission=door)
        failed += answer == "fail"
        deferred += answer != "fail"
        if isinstance(outcome, Buried):
            assert failed == attempts
            break
        counters = counters_after(current, outcome)
        current = call(
            failures=counters.get(FAILURES, current.failures), deferrals=counters.get(DEFERRALS, current.deferrals)
        )
        clock.advance(outcome.delay)
        assert (current.failures, current.deferrals) == (failed, deferred)
        assert current.attempt == failed + 1 <= attempts
    assert failed <= attempts


def test_a_whole_life_takes_the_waits_of_the_policy():
    clock = FrozenClock(NOW)
    backoff = Backoff(on=OSError, attempts=4, first=1, factor=3, jitter="equal")
    current, waits = call(), []
    while isinstance(outcome := execute(current, raising(OSError()), backoff=backoff, clock=clock), Retrying):
        waits.append(outcome.delay)
        clock.advance(outcome.delay)
        current = call(failures=current.failures + 1, first_failed_at=NOW)
    assert outcome.reason == "exhausted"
    assert [0.5 <= waits[0] <= 1, 1.5 <= waits[1] <= 3, 4.5 <= waits[2] <= 9] == [True] * 3


@pytest.mark.parametrize("code", [None, 0, 1, 3, "bye", -1, 256])
def test_a_body_that_ends_its_process_is_no_order_of_the_worker(code):
    assert not is_order(SystemExit(code))


def test_what_a_pool_process_or_its_engine_ends_with_is_an_order():
    class Shutdown(SystemExit):
        pass

    assert is_order(Shutdown(0))
    assert is_order(SystemExit(-(256 - signal.SIGTERM)))
