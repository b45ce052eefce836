"""
What every store of guards must do, asked of the memory twin and of a real Redis.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest

from celery_platform.clock import FrozenClock
from celery_platform.stores.guard_state import (
    Admitted,
    BreakerRule,
    BudgetRule,
    Claim,
    ClaimRule,
    RateRule,
    Refused,
    Request,
    Settlement,
    SlotRule,
)
from celery_platform.stores.keys import Keys
from celery_platform.stores.memory_guards import MemoryGuards
from celery_platform.stores.redis import RedisStore
from celery_platform.stores.redis_guards import RedisGuards

_nonces = itertools.count()
TASK = "tasks.pay"
KEY = ClaimRule("k", "until_ttl", "return_existing", "same", keep=60, hold=3600, lease=0.4)
BREAKER = BreakerRule("shop", 0.5, 4, 60, 0, 0, 1.0, 0.3, 2, 60, 2, 1000, 0.4)
RATE = RateRule("api", 10, 1, 2, 1, sliding=False)
WINDOW = RateRule("api", 2, 0.5, 2, 1, sliding=True)
SLOTS = SlotRule("db", 2, 0.4, 1)
DONE, FREED, WAITING = Settlement("done", '"paid"'), Settlement("freed"), Settlement("waiting", delay=0.01)
GOOD, BAD, NEITHER = ({"shop": verdict} for verdict in ("success", "failure", "ignored"))


class Time:
    """How a test lets time pass: the memory twin's clock is moved, a server's is waited for."""

    def __init__(self, clock: FrozenClock | None) -> None:
        self.clock = clock

    def pass_(self, seconds: float) -> None:
        if self.clock is not None:
            self.clock.advance(seconds)
        else:
            end = time.monotonic() + seconds + 0.005
            while time.monotonic() < end:
                time.sleep(0.002)


@pytest.fixture(params=["memory", "redis"])
def kind(request):
    return request.param


@pytest.fixture
def clock(kind):
    return Time(FrozenClock() if kind == "memory" else None)


@pytest.fixture
def state(kind, clock, request):
    if kind == "memory":
        return MemoryGuards(clock.clock)
    store = RedisStore(request.getfixturevalue("redis_url"), Keys("contract"))
    request.addfinalizer(store.client.close)  # noqa: PT021 - only one of the two kinds has anything to close
    return RedisGuards(store)


def ask(*rules, call="a", **more):
    return Request(call, TASK, f"nonce-{next(_nonces)}", rules, **more)


def run(state, request, settlement):
    admitted = state.admit(request)
    assert isinstance(admitted, Admitted), admitted
    return state.settle(request, admitted, settlement)


def claim(state, call, rule=KEY):
    return state.claim(Claim(call, TASK, rule))


def trip(state):
    for n in range(4):
        settled = run(state, ask(BREAKER, call=f"trip-{n}"), replace(FREED, verdicts=BAD))
    return settled


class TestKeys:
    def test_the_second_call_gets_the_first_with_its_state(self, state):
        assert claim(state, "a").verdict == "new"
        assert claim(state, "a").verdict == "new"
        again = claim(state, "b")
        assert (again.verdict, again.holder, again.state) == ("duplicate", "a", "waiting")
        request = ask(KEY)
        admitted = state.admit(request)
        assert claim(state, "b").state == "running"
        state.settle(request, admitted, DONE)
        assert claim(state, "b").state == "done"

    @pytest.mark.parametrize(
        ("conflict", "verdict"),
        [("return_existing", "duplicate"), ("raise", "raise"), ("drop", "drop"), ("replace", "new")],
    )
    @pytest.mark.parametrize("scope", ["until_start", "until_done", "until_ttl"])
    def test_a_held_key_is_answered_by_its_policy(self, state, scope, conflict, verdict):
        rule = replace(KEY, scope=scope, conflict=conflict)
        claim(state, "a", rule)
        assert claim(state, "b", rule).verdict == verdict
        winner = "b" if conflict == "replace" else "a"
        other = state.admit(ask(rule, call="a" if winner == "b" else "b"))
        assert isinstance(other, Refused)
        assert (other.waits, other.holder) == (False, winner)
        assert isinstance(state.admit(ask(rule, call=winner)), Admitted)

    def test_the_same_key_with_another_payload_is_a_mismatch(self, state):
        claim(state, "a")
        assert claim(state, "b", replace(KEY, fingerprint="other")).verdict == "mismatch"
        refused = state.admit(ask(replace(KEY, fingerprint="other"), call="b"))
        assert refused.why == "mismatch"

    def test_a_redelivery_of_a_finished_call_gets_the_result(self, state):
        run(state, ask(KEY), DONE)
        again = state.admit(ask(KEY))
        assert (again.why, again.result, again.waits) == ("done", '"paid"', False)
        other = state.admit(ask(KEY, call="b"))
        assert (other.why, other.result, other.holder) == ("done", '"paid"', "a")

    def test_the_record_lasts_for_its_time(self, state, clock):
        rule = replace(KEY, keep=0.2, hold=0.2)
        run(state, ask(rule), DONE)
        clock.pass_(0.25)
        assert claim(state, "b", rule).verdict == "new"

    @pytest.mark.parametrize(
        ("scope", "free_at"),
        [("until_start", "start"), ("until_done", "done"), ("until_ttl", "later"), ("while_running", "done")],
    )
    def test_a_scope_says_when_the_key_is_free(self, state, scope, free_at):
        rule = replace(KEY, scope=scope, conflict="return_existing" if scope != "while_running" else "drop")
        if scope != "while_running":
            claim(state, "a", rule)
        request = ask(rule)
        admitted = state.admit(request)
        running = isinstance(state.admit(ask(rule, call="b")), Admitted)
        assert running == (free_at == "start")
        state.settle(request, admitted, DONE)
        assert isinstance(state.admit(ask(rule, call="c")), Admitted) == (free_at in {"start", "done"}) or running

    @pytest.mark.parametrize("scope", ["until_start", "until_done", "until_ttl", "while_running"])
    def test_a_buried_call_leaves_its_key_free(self, state, scope):
        rule = replace(KEY, scope=scope)
        run(state, ask(rule), FREED)
        assert isinstance(state.admit(ask(rule, call="b")), Admitted)

    @pytest.mark.parametrize("scope", ["until_done", "until_ttl"])
    def test_the_key_is_held_through_retries(self, state, scope):
        rule = replace(KEY, scope=scope)
        claim(state, "a", rule)
        run(state, ask(rule), WAITING)
        assert claim(state, "b", rule).verdict == "duplicate"
        assert isinstance(state.admit(ask(rule)), Admitted)

    def test_a_second_delivery_waits_while_the_first_runs(self, state):
        state.admit(ask(KEY))
        second = state.admit(ask(KEY))
        assert (second.why, second.waits) == ("running", True)
        assert 0 < second.delay < 0.5

    def test_a_dead_holder_is_overtaken_after_its_lease_and_fenced(self, state, clock):
        dead = ask(KEY)
        first = state.admit(dead)
        clock.pass_(0.45)
        assert claim(state, "b").verdict == "new"
        alive = ask(KEY, call="b")
        second = state.admit(alive)
        assert second.fence > first.fence
        late = state.settle(dead, first, DONE)
        assert (late.fenced, late.result) == (True, None) or late.fenced is False
        state.settle(alive, second, Settlement("done", '"by b"'))
        assert state.admit(ask(KEY, call="c")).result == '"by b"'

    def test_the_late_result_of_a_redelivered_call_does_not_count(self, state, clock):
        dead = ask(KEY)
        first = state.admit(dead)
        clock.pass_(0.45)
        alive = ask(KEY)
        second = state.admit(alive)
        assert second.fence > first.fence
        assert state.settle(dead, first, Settlement("done", '"late"')).fenced
        state.settle(alive, second, Settlement("done", '"right"'))
        assert state.settle(dead, first, Settlement("done", '"late"')).result == '"right"'

    def test_a_renewed_hold_outlives_its_lease(self, state, clock):
        request = ask(KEY)
        state.admit(request)
        for _ in range(3):
            clock.pass_(0.25)
            assert state.renew(request) == (True, False)
        assert state.admit(ask(KEY, call="b")).why == "duplicate"

    def test_the_newest_of_a_burst_runs_alone(self, state, clock):
        rule = replace(KEY, scope="latest_wins", conflict="replace", delay=0.2, max_wait=0.5)
        for call in "abc":
            assert 0.1 < claim(state, call, rule).delay <= 0.201
        clock.pass_(0.2)
        assert state.admit(ask(rule, call="a")).why == "superseded"
        request = ask(rule, call="c")
        admitted = state.admit(request)
        assert isinstance(admitted, Admitted)
        claim(state, "d", rule)
        waits = state.admit(ask(rule, call="d"))
        assert (waits.why, waits.waits) == ("running", True)
        state.settle(request, admitted, DONE)
        assert isinstance(state.admit(ask(rule, call="d")), Admitted)

    def test_a_steady_stream_does_not_starve_the_newest_beyond_its_longest_wait(self, state, clock):
        rule = replace(KEY, scope="latest_wins", conflict="replace", delay=0.2, max_wait=0.4)
        waited = 0.0
        for n in range(20):
            delay = claim(state, f"call-{n}", rule).delay
            if delay < 0.1:
                break
            clock.pass_(0.1)
            waited += 0.1
        assert 0.2 < waited <= 0.5

    def test_a_key_that_was_not_published_is_given_back_by_its_owner_only(self, state):
        claim(state, "a")
        state.unclaim(Claim("b", TASK, KEY))
        assert claim(state, "b").verdict == "duplicate"
        state.unclaim(Claim("a", TASK, KEY))
        assert claim(state, "b").verdict == "new"


class TestBreakers:
    def test_it_opens_at_the_rate_and_not_below_the_least_calls(self, state):
        for n in range(3):
            assert not run(state, ask(BREAKER, call=f"{n}"), replace(FREED, verdicts=BAD)).moved
        moved = run(state, ask(BREAKER, call="3"), replace(FREED, verdicts=BAD)).moved
        assert [(move.was, move.now) for move in moved] == [("closed", "open")]
        refused = state.admit(ask(BREAKER, call="4"))
        assert (refused.guard, refused.why, refused.waits) == ("breaker", "open", True)
        assert 0 < refused.delay < 0.4

    def test_successes_keep_it_closed(self, state):
        for n in range(12):
            verdicts = BAD if n % 3 == 2 else GOOD
            assert not run(state, ask(BREAKER, call=f"{n}"), replace(DONE, verdicts=verdicts)).moved

    def test_a_count_window_forgets_by_calls(self, state):
        rule = replace(BREAKER, window_calls=4)
        for verdicts in (BAD, GOOD, GOOD, GOOD, GOOD, BAD):
            assert not run(state, ask(rule), replace(FREED, verdicts=verdicts)).moved
        assert run(state, ask(rule), replace(FREED, verdicts=BAD)).moved

    def test_a_time_window_forgets_by_time(self, state, clock):
        rule = replace(BREAKER, window=0.5)
        for _ in range(3):
            run(state, ask(rule), replace(FREED, verdicts=BAD))
        clock.pass_(0.6)
        assert not run(state, ask(rule), replace(FREED, verdicts=BAD)).moved

    def test_slow_calls_open_it(self, state):
        rule = replace(BREAKER, slow_call=0.5)
        for _ in range(3):
            assert not run(state, ask(rule), Settlement("done", ran=0.6, verdicts=GOOD)).moved
        assert run(state, ask(rule), Settlement("done", ran=0.6, verdicts=GOOD)).moved

    def test_exactly_the_permitted_trials_go_through_and_close_it(self, state, clock):
        trip(state)
        clock.pass_(0.35)
        first, second = ask(BREAKER, call="x"), ask(BREAKER, call="y")
        one, two = state.admit(first), state.admit(second)
        assert [(move.was, move.now) for move in one.moved] == [("open", "half_open")]
        assert isinstance(two, Admitted)
        assert state.admit(ask(BREAKER, call="z")).why == "half_open"
        state.settle(first, one, replace(DONE, verdicts=GOOD))
        assert isinstance(state.admit(ask(BREAKER, call="z")), Refused)
        closed = state.settle(second, two, replace(DONE, verdicts=GOOD))
        assert [(move.was, move.now) for move in closed.moved] == [("half_open", "closed")]
        clock.pass_(0.1)
        assert isinstance(state.admit(ask(BREAKER, call="z")), Admitted)

    def test_failed_trials_open_it_for_longer(self, state, clock):
        trip(state)
        clock.pass_(0.35)
        requests = [ask(BREAKER, call="x"), ask(BREAKER, call="y")]
        admitted = [state.admit(request) for request in requests]
        for request, one in zip(requests, admitted, strict=True):
            settled = state.settle(request, one, replace(FREED, verdicts=BAD))
        assert [(move.was, move.now) for move in settled.moved] == [("half_open", "open")]
        assert state.admit(ask(BREAKER, call="z")).delay > 0.5

    def test_a_crashed_or_ignored_trial_gives_its_permit_back(self, state, clock):
        trip(state)
        clock.pass_(0.35)
        crashed, ignored = ask(BREAKER, call="x"), ask(BREAKER, call="y")
        one, two = state.admit(crashed), state.admit(ignored)
        state.settle(ignored, two, replace(WAITING, verdicts=NEITHER))
        assert isinstance(state.admit(ask(BREAKER, call="z")), Admitted)
        assert isinstance(state.admit(ask(BREAKER, call="w")), Refused)
        clock.pass_(0.45)
        assert isinstance(state.admit(ask(BREAKER, call="w")), Admitted)
        assert not state.settle(crashed, one, replace(FREED, verdicts=BAD)).moved

    def test_a_result_from_before_the_trip_changes_nothing(self, state, clock):
        early = ask(BREAKER, call="early")
        admitted = state.admit(early)
        trip(state)
        assert not state.settle(early, admitted, replace(DONE, verdicts=GOOD)).moved
        clock.pass_(0.35)
        state.admit(ask(BREAKER, call="x"))
        assert not state.settle(early, admitted, replace(DONE, verdicts=GOOD)).moved

    def test_the_backlog_comes_back_in_steps(self, state, clock):
        rule = replace(BREAKER, ramp=5)
        for n in range(4):
            run(state, ask(rule, call=f"trip-{n}"), replace(FREED, verdicts=BAD))
        waits = [state.admit(ask(rule, call=f"{n}")).delay for n in range(10)]
        assert max(waits[:2]) < 0.4
        assert waits[2] > 1
        assert waits[2:] == sorted(waits[2:])
        clock.pass_(0.35)
        for call in "xy":
            run(state, ask(rule, call=call), replace(DONE, verdicts=GOOD))
        answers = [state.admit(ask(rule, call=f"{n}")) for n in range(5)]
        delays = [answer.delay for answer in answers if isinstance(answer, Refused)]
        assert len(delays) >= 4
        assert delays == sorted(delays)
        clock.pass_(delays[0])
        first = next(n for n, answer in enumerate(answers) if isinstance(answer, Refused))
        assert isinstance(state.admit(ask(rule, call=f"{first}")), Admitted)

    @pytest.mark.parametrize(
        ("forced", "runs", "trips"),
        [("forced_open", False, False), ("disabled", True, False), ("metrics_only", True, False)],
    )
    def test_an_operator_wins_for_a_time(self, state, clock, forced, runs, trips):
        assert state.force("shop", forced, seconds=0.3, reason="test") == "closed"
        answers = []
        for n in range(6):
            request = ask(BREAKER, call=f"{n}")
            answers.append(state.admit(request))
            if isinstance(answers[-1], Admitted):
                assert bool(state.settle(request, answers[-1], replace(FREED, verdicts=BAD)).moved) == trips
        assert {isinstance(answer, Admitted) for answer in answers} == {runs}
        clock.pass_(0.35)
        after = state.admit(ask(BREAKER, call="after"))
        assert [(move.was, move.now) for move in after.moved] == [(forced, "closed")]


class TestLimits:
    def test_a_burst_then_one_each_interval_in_the_order_of_asking(self, state, clock):
        answers = [state.admit(ask(RATE, call=f"{n}")) for n in range(5)]
        assert [isinstance(answer, Admitted) for answer in answers] == [True, True, False, False, False]
        delays = [answer.delay for answer in answers[2:]]
        assert delays == pytest.approx([0.1, 0.2, 0.3], abs=0.03)
        clock.pass_(delays[0])
        # A newcomer does not overtake those that wait.
        newcomer = state.admit(ask(RATE, call="newcomer"))
        assert newcomer.delay > 0.2
        assert isinstance(state.admit(ask(RATE, call="2")), Admitted)
        assert isinstance(state.admit(ask(RATE, call="3")), Refused)

    def test_what_a_call_did_not_cost_is_given_back(self, state):
        rule = replace(RATE, limit=100, burst=100, cost=80)
        assert isinstance(state.admit(ask(rule, call="other")), Admitted)
        assert state.admit(ask(rule, call="b")).delay > 0.5
        state2 = replace(rule, id="second")
        run(state, ask(state2), replace(DONE, actual={"second": 10}))
        assert isinstance(state.admit(ask(state2, call="b")), Admitted)

    def test_an_exact_window_never_holds_more(self, state, clock):
        answers = [state.admit(ask(WINDOW, call=f"{n}")) for n in range(5)]
        assert [isinstance(answer, Admitted) for answer in answers] == [True, True, False, False, False]
        assert [round(answer.delay, 1) for answer in answers[2:]] == [0.5, 0.5, 1.0]
        clock.pass_(0.51)
        assert isinstance(state.admit(ask(WINDOW, call="2")), Admitted)
        assert isinstance(state.admit(ask(WINDOW, call="3")), Admitted)
        assert isinstance(state.admit(ask(WINDOW, call="new")), Refused)

    def test_slots_go_to_those_who_waited_first(self, state):
        requests = [ask(SLOTS, call=f"{n}") for n in range(2)]
        admitted = [state.admit(request) for request in requests]
        assert isinstance(state.admit(ask(SLOTS, call="first")), Refused)
        assert isinstance(state.admit(ask(SLOTS, call="second")), Refused)
        state.settle(requests[0], admitted[0], DONE)
        assert isinstance(state.admit(ask(SLOTS, call="newcomer")), Refused)
        assert isinstance(state.admit(ask(SLOTS, call="second")), Refused)
        assert isinstance(state.admit(ask(SLOTS, call="first")), Admitted)

    def test_the_slot_of_a_dead_holder_is_free_after_its_lease_and_that_of_a_live_one_is_not(self, state, clock):
        dead, alive = ask(SLOTS, call="dead"), ask(SLOTS, call="alive")
        state.admit(dead)
        state.admit(alive)
        for _ in range(2):
            clock.pass_(0.25)
            state.renew(alive)
        assert isinstance(state.admit(ask(SLOTS, call="a")), Admitted)
        assert isinstance(state.admit(ask(SLOTS, call="b")), Refused)

    def test_weights_count(self, state):
        heavy = replace(SLOTS, cost=2)
        request = ask(heavy)
        admitted = state.admit(request)
        assert isinstance(state.admit(ask(SLOTS, call="b")), Refused)
        state.settle(request, admitted, DONE)
        assert isinstance(state.admit(ask(SLOTS, call="b")), Admitted)

    def test_retries_are_a_share_of_first_tries(self, state):
        rule = BudgetRule("shop", share=0.25, reserve=2)
        retries = [state.admit(ask(rule, call=f"{n}", failures=1)) for n in range(3)]
        assert [isinstance(answer, Admitted) for answer in retries] == [True, True, False]
        assert (retries[2].guard, retries[2].waits) == ("budget", True)
        # Each first try earns a quarter of a retry, and never waits itself.
        for n in range(5):
            assert isinstance(state.admit(ask(rule, call=f"first-{n}")), Admitted)
        retries = [state.admit(ask(rule, call=f"again-{n}", failures=1)) for n in range(2)]
        assert [isinstance(answer, Admitted) for answer in retries] == [True, False]

    def test_a_dry_run_refuses_nothing_and_tells(self, state):
        rule = replace(RATE, dry_run=True)
        answers = [state.admit(ask(rule, call=f"{n}")) for n in range(3)]
        assert [tuple(answer.over) for answer in answers] == [(), (), ("api",)]


class TestTogether:
    def test_a_refusal_by_one_guard_takes_nothing_of_another(self, state):
        full = replace(SLOTS, id="full", slots=1)
        blocker = ask(full, call="blocker")
        held = state.admit(blocker)
        for n in range(5):
            refused = state.admit(ask(KEY, BREAKER, RATE, SLOTS, full, call=f"{n}"))
            assert (refused.guard, refused.id) == ("concurrency", "full")
        # Neither a token, nor a slot, nor the key was taken.
        assert isinstance(state.admit(ask(RATE, call="x")), Admitted)
        assert isinstance(state.admit(ask(RATE, call="y")), Admitted)
        assert isinstance(state.admit(ask(SLOTS, call="x")), Admitted)
        assert isinstance(state.admit(ask(SLOTS, call="y")), Admitted)
        assert claim(state, "other").verdict == "new"
        state.settle(blocker, held, DONE)

    def test_an_open_breaker_keeps_the_key_and_no_token(self, state):
        trip(state)
        claim(state, "a")
        assert state.admit(ask(KEY, BREAKER, RATE)).guard == "breaker"
        assert claim(state, "b").state == "parked"
        assert isinstance(state.admit(ask(RATE, call="x")), Admitted)
        assert isinstance(state.admit(ask(RATE, call="y")), Admitted)

    def test_a_pause_wins_over_all_and_ends(self, state):
        subjects = (f"task:{TASK}", "queue:default", "key:k")
        for subject in subjects:
            state.pause(subject, reason="deployment")
            refused = state.admit(ask(RATE, subjects=subjects))
            assert (refused.guard, refused.id, refused.why, refused.waits) == ("pause", subject, "deployment", True)
            assert state.resume(subject)
            assert not state.resume(subject)
        assert isinstance(state.admit(ask(RATE, subjects=subjects)), Admitted)

    def test_a_cancelled_call_is_refused_for_good_and_a_running_one_hears_of_it(self, state):
        running = ask(KEY, call="running")
        state.admit(running)
        state.cancel("running")
        state.cancel("waiting")
        assert state.renew(running) == (True, True)
        refused = state.admit(ask(RATE, call="waiting"))
        assert (refused.guard, refused.waits) == ("cancel", False)

    def test_why_a_call_waits_is_written_down(self, state):
        for n in range(2):
            state.admit(ask(RATE, call=f"{n}"))
        assert state.call("late") is None
        for _ in range(2):
            state.admit(ask(RATE, call="late"))
        fields = state.call("late").fields
        assert (fields["state"], fields["guard"], fields["by"], fields["n"]) == ("parked", "rate", "api", "2")
