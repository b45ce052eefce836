from __future__ import annotations

from datetime import timedelta

import pytest

from celery_platform.errors import PolicyError
from celery_platform.guards.circuit_breaker import STATES, TRANSITIONS, CircuitBreaker, forget_definitions
from celery_platform.guards.idempotency import CONFLICTS, SCOPES, Idempotency
from celery_platform.guards.key_template import Signature, render_key
from celery_platform.guards.limits import ConcurrencyLimit, RateLimit, RetryBudget
from celery_platform.guards.rules import guards_of
from celery_platform.outcomes import Buried, Deferred, Retrying, Skipped, Succeeded

LEGAL = {
    ("until_start", "return_existing"),
    ("until_start", "raise"),
    ("until_start", "drop"),
    ("until_start", "replace"),
    ("until_done", "return_existing"),
    ("until_done", "raise"),
    ("until_done", "drop"),
    ("until_done", "replace"),
    ("until_done", "defer"),
    ("until_ttl", "return_existing"),
    ("until_ttl", "raise"),
    ("until_ttl", "drop"),
    ("until_ttl", "replace"),
    ("while_running", "defer"),
    ("while_running", "drop"),
    ("latest_wins", "replace"),
}


@pytest.fixture(autouse=True)
def _nothing_defined():
    forget_definitions()
    yield
    forget_definitions()


def pay(invoice_id: str, account: str = "main") -> None: ...


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_pair_of_scope_and_conflict_is_legal_or_refused_with_the_legal_ones(scope, conflict):
    if (scope, conflict) in LEGAL:
        assert Idempotency("k", scope=scope, on_conflict=conflict).conflict == conflict
    else:
        with pytest.raises(PolicyError, match=f"{scope} goes with "):
            Idempotency("k", scope=scope, on_conflict=conflict)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Idempotency("k", scope="until_don"), "Did you mean 'until_done'"),
        (lambda: Idempotency("k", on_conflict="rase"), "Did you mean 'raise'"),
        (lambda: Idempotency("k", keep=0), "more than zero"),
        (lambda: Idempotency("k", keep=timedelta(seconds=-1)), "more than zero"),
        (lambda: Idempotency(""), "got nothing"),
        (lambda: Idempotency("k", delay=5), "latest_wins"),
        (lambda: Idempotency("k", scope="latest_wins", delay=5, max_wait=1), "shorter than delay"),
        (lambda: RateLimit("api", -1), "1 or more"),
        (lambda: RateLimit("api", 0), "1 or more"),
        (lambda: RateLimit("api", 10, per=0), "more than zero"),
        (lambda: RateLimit("api", 10, algorithm="gcr"), "Did you mean 'gcra'"),
        (lambda: RateLimit("api", 10, algorithm="sliding", burst=3), "belongs to algorithm='gcra'"),
        (lambda: RateLimit("api", 10, cost=11), "could never run"),
        (lambda: RateLimit("api", 10, policy="drop", dead_after=3), "with policy='wait'"),
        (lambda: RateLimit("a|b", 10), "without '|'"),
        (lambda: ConcurrencyLimit("db", 0), "1 or more"),
        (lambda: ConcurrencyLimit("db", 2, lease=0), "more than zero"),
        (lambda: RetryBudget("shop", share=0), "a share above 0 and up to 1"),
        (lambda: RetryBudget("shop", reserve=0), "wait for ever"),
        (lambda: CircuitBreaker("x", failure_rate=50), "a share above 0 and up to 1"),
        (lambda: CircuitBreaker("x", trials=0), "1 or more"),
        (lambda: CircuitBreaker("x", policy="parc"), "Did you mean 'park'"),
        (lambda: CircuitBreaker("x", policy="fallback"), "goes together"),
        (lambda: CircuitBreaker("x", window_calls=5), "never open"),
        (lambda: CircuitBreaker("x", growth=0.5), "1 or more"),
        (lambda: CircuitBreaker(""), "name of a dependency"),
    ],
)
def test_nonsense_is_refused_with_the_remedy(make, told):
    with pytest.raises(PolicyError, match=told.replace("(", r"\(").replace("|", r"\|")):
        make()


def test_a_key_that_names_an_unknown_argument_is_refused_with_the_known_ones():
    with pytest.raises(PolicyError, match=r"invoice_id, account.*Did you mean 'invoice_id'"):
        guards_of("pay", Signature(pay), idempotency=Idempotency("invoice:{invoice_ix}"))
    with pytest.raises(PolicyError, match="nameless field"):
        guards_of("pay", Signature(pay), limits=RateLimit("api", 1, key="{}"))
    with pytest.raises(PolicyError, match="no template"):
        guards_of("pay", Signature(pay), breaker=CircuitBreaker("x", key="{account"))


def test_one_breaker_name_with_two_configurations_is_refused_and_the_difference_told():
    guards_of("pay", Signature(pay), breaker=CircuitBreaker("stripe"))
    guards_of("refund", Signature(pay), breaker=CircuitBreaker("stripe", policy="drop"))
    with pytest.raises(PolicyError, match=r"defined differently by pay \(cool_down: 30.0 there, 5 here\)"):
        guards_of("quote", Signature(pay), breaker=CircuitBreaker("stripe", cool_down=5))


def test_a_guard_of_the_wrong_kind_is_refused():
    with pytest.raises(PolicyError, match="breaker expected a CircuitBreaker"):
        guards_of("pay", Signature(pay), breaker="stripe")
    with pytest.raises(PolicyError, match="names RateLimit 'api' twice"):
        guards_of("pay", Signature(pay), limits=[RateLimit("api", 1), RateLimit("api", 2)])


def test_a_key_is_made_of_arguments_however_they_are_given():
    signature = Signature(pay)
    for args, kwargs in [(("7",), {}), ((), {"invoice_id": "7"}), (("7", "main"), {})]:
        assert render_key("{invoice_id}/{account}", signature, args, kwargs) == "7/main"
    assert render_key(lambda invoice_id, account="a": f"{invoice_id}{account}", signature, ("7",), {}) == "7a"
    assert Signature(lambda _task, n: n, bound=True).parameters == ("n",)


def test_a_key_of_more_than_512_bytes_is_hashed():
    signature = Signature(pay)
    assert render_key("{invoice_id}", signature, ("x" * 512,), {}) == "x" * 512
    long = render_key("{invoice_id}", signature, ("x" * 513,), {})
    assert long.startswith("sha256:")
    assert len(long) == 7 + 64
    assert long != render_key("{invoice_id}", signature, ("x" * 514,), {})


def test_the_breaker_counts_errors_and_results_as_it_was_told():
    breaker = CircuitBreaker("x", ignore=(KeyError,), record=(OSError,), record_result=lambda value: value == 500)
    assert breaker.judge(Succeeded(200)) == "success"
    assert breaker.judge(Succeeded(500)) == "failure"
    assert breaker.judge(Retrying(1, ConnectionError())) == "failure"
    assert breaker.judge(Buried("exhausted", ValueError())) == "success"
    assert breaker.judge(Buried("exhausted", KeyError())) == "ignored"
    assert breaker.judge(Deferred(1, "snoozed")) == "ignored"
    assert breaker.judge(Skipped("not wanted", discarded=True)) == "ignored"


def test_every_state_has_its_legal_transitions_and_can_be_left():
    assert set(TRANSITIONS) == set(STATES)
    for state, targets in TRANSITIONS.items():
        assert targets
        assert state not in targets
        assert set(targets) <= set(STATES)
