"""
Decide what becomes of a call that a guard refused: it waits, it ends, or it is answered in another way.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from celery_platform.errors import BreakerOpen, IdempotencyMismatch, LimitExceeded
from celery_platform.outcomes import Buried, Deferred, Skipped, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_platform.guards.circuit_breaker import CircuitBreaker
    from celery_platform.guards.rules import Arguments, Guards
    from celery_platform.outcomes import Call
    from celery_platform.stores.guard_state import Refused

__all__ = ["mismatch", "outcome_of", "sentence"]


_WAITING = {
    "breaker": "circuit breaker {name} is {why}",
    "rate": "rate limit {name} is reached",
    "concurrency": "concurrency limit {name} is reached",
    "budget": "the retry budget {name} is spent",
    "idempotency": "the idempotency key {name} is held by another run",
}


def outcome_of(
    call: Call, refused: Refused, guards: Guards, values: Arguments, dump: Callable[[Any], Any]
) -> Skipped | Deferred | Buried:
    """
    Return what becomes of *call*; *values* are its arguments, *dump* gives a value its wire form.
    """
    match refused.guard:
        case "cancel":
            return Skipped("cancelled", discarded=True)
        case "idempotency":
            return _by_key(call, refused)
        case "breaker":
            breaker = next(one for one in guards.breakers if one.name == refused.id.partition("|")[0])
            return _by_breaker(refused, breaker, values, dump)
        case "rate" | "concurrency" | "budget":
            return _by_limit(call, refused, guards)
    return Deferred(refused.delay, sentence(refused.guard, refused.id, refused.why), refused.guard)


def sentence(guard: str, name: str, why: str) -> str:
    """
    Say in a few words which guard keeps a call waiting.
    """
    if guard == "breaker" and why == "closed":
        return f"circuit breaker {name} has closed and releases its backlog step by step"
    if guard == "pause":
        return f"{name} is paused" + (f": {why}" if why else "")
    return _WAITING.get(guard, f"{guard} {{name}}").format(name=name, why=why.replace("_", " "))


def mismatch(task: str, key: str, holder: str) -> IdempotencyMismatch:
    """
    Return the error for one key with two payloads.
    """
    return IdempotencyMismatch(
        f"{task}: the idempotency key {key!r} belongs to the call {holder}, which has other arguments. One key is one"
        " piece of work: put whatever differs into the key, or send the same arguments."
    )


def _by_key(call: Call, refused: Refused) -> Skipped | Deferred | Buried:
    if refused.waits:
        return Deferred(refused.delay, sentence("idempotency", refused.id, refused.why), "idempotency")
    if refused.why == "done":
        value = None if refused.result is None else json.loads(refused.result)
        return Skipped(f"already done by {refused.holder}", value=value)
    if refused.why == "mismatch":
        return Buried("mismatch", mismatch(call.task, refused.id, refused.holder))
    if refused.why == "superseded":
        return Skipped(f"superseded by {refused.holder or 'a newer call'}", discarded=True)
    return Skipped(f"a duplicate of {refused.holder}", discarded=True)


def _by_breaker(
    refused: Refused, breaker: CircuitBreaker, values: Arguments, dump: Callable[[Any], Any]
) -> Skipped | Deferred | Buried:
    told = sentence("breaker", refused.id, refused.why)
    if breaker.policy == "park":
        return Deferred(refused.delay, told, "breaker")
    if breaker.policy == "drop":
        return Skipped(told, discarded=True)
    if breaker.fallback is not None:
        return Skipped(told, value=dump(breaker.fallback(*values[0], **values[1])))
    error = BreakerOpen(f"{told}; it may let calls through in {refused.delay:.1f} s. Mend the dependency, or wait.")
    error.retry_after = refused.delay
    return Buried("breaker_open", error)


def _by_limit(call: Call, refused: Refused, guards: Guards) -> Skipped | Deferred | Buried:
    name = refused.id.partition("|")[0]
    kind = {"rate": "RateLimit", "concurrency": "ConcurrencyLimit", "budget": "RetryBudget"}[refused.guard]
    limit = next(one for one in guards.limits if one.name == name and type(one).__name__ == kind)
    told = sentence(refused.guard, refused.id, refused.why)
    if limit.policy == "drop":
        return Skipped(told, discarded=True)
    if limit.dead_after is not None and refused.waited + refused.delay > seconds(limit.dead_after):
        error = LimitExceeded(
            f"{call.task}[{call.id}]: {told}, and dead_after lets it wait {seconds(limit.dead_after):g} s at most."
            " Raise the limit, or the patience."
        )
        error.retry_after = refused.delay
        return Buried("limit", error)
    return Deferred(refused.delay, told, refused.guard)
