"""
Turn the guards of a task and the arguments of a call into what the store is asked.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery_platform.errors import PolicyError
from celery_platform.guards.circuit_breaker import CircuitBreaker
from celery_platform.guards.idempotency import Idempotency
from celery_platform.guards.key_template import render_key
from celery_platform.guards.limits import ConcurrencyLimit, RateLimit, RetryBudget, cost_of
from celery_platform.outcomes import seconds
from celery_platform.stores.guard_state import BreakerRule, BudgetRule, ClaimRule, RateRule, SlotRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery_platform.guards.key_template import Key, Signature
    from celery_platform.guards.limits import Limit
    from celery_platform.stores.guard_state import Rule

__all__ = ["Guards", "breaker_rule", "claim_rule", "guards_of", "limit_rule"]

# A key outlives the last sign of a waiting owner by this at least, in seconds: queues are longer than short `keep`s.
_SHORTEST_HOLD = 3600.0


@dataclass(frozen=True, slots=True)
class Guards:
    """All guards of one task, with the argument names its keys are made of."""

    signature: Signature
    idempotency: Idempotency | None = None
    breakers: tuple[CircuitBreaker, ...] = ()
    limits: tuple[Limit, ...] = ()

    def rules(self, wire: Arguments, values: Arguments, *, delay: float = 0.0) -> tuple[Rule, ...]:
        """
        Return what one call needs; *wire* are its arguments as they travel, *values* as the body sees them.
        """
        rules: list[Rule] = []
        if self.idempotency is not None:
            rules.append(claim_rule(self.idempotency, self.signature, wire, values, delay=delay))
        rules += [breaker_rule(breaker, self.signature, values) for breaker in self.breakers]
        rules += [limit_rule(limit, self.signature, values) for limit in self.limits]
        return tuple(rules)


Arguments = tuple[tuple[Any, ...], "Mapping[str, Any]"]


def guards_of(
    task: str,
    signature: Signature,
    *,
    idempotency: Idempotency | None = None,
    breaker: CircuitBreaker | Sequence[CircuitBreaker] | None = None,
    limits: Limit | Sequence[Limit] | None = None,
) -> Guards | None:
    """
    Return the guards that a decorator named, or nothing when it named none.

    Raises `PolicyError` for values of the wrong kind, keys that do not fit the task, and names that mean two things.
    """
    if idempotency is not None and not isinstance(idempotency, Idempotency):
        raise PolicyError(f"{task}: idempotency expected an Idempotency(key=…), got {idempotency!r}.")
    breakers = _all(task, "breaker", breaker, CircuitBreaker)
    bounds = _all(task, "limits", limits, (RateLimit, ConcurrencyLimit, RetryBudget))
    for guard in (*filter(None, (idempotency,)), *breakers, *bounds):
        guard.check(signature.parameters, task)
    names = [(type(limit), limit.name, str(limit.key)) for limit in bounds]
    for name in names:
        if names.count(name) > 1:
            raise PolicyError(f"{task}: limits names {name[0].__name__} {name[1]!r} twice. Keep one, or rename one.")
    if idempotency is None and not breakers and not bounds:
        return None
    return Guards(signature, idempotency, breakers, bounds)


def claim_rule(
    policy: Idempotency, signature: Signature, wire: Arguments, values: Arguments, *, delay: float = 0.0
) -> ClaimRule:
    """
    Return the key of a call; *delay* is how long it is to wait before it may run, in seconds.
    """
    keep = seconds(policy.keep)
    return ClaimRule(
        key=render_key(policy.key, signature, *values),
        scope=policy.scope,
        conflict=policy.conflict,
        fingerprint=_fingerprint(signature.bound(*wire)),
        keep=keep,
        hold=max(keep, _SHORTEST_HOLD) + delay,
        lease=seconds(policy.lease),
        delay=seconds(policy.delay),
        max_wait=0.0 if policy.max_wait is None else seconds(policy.max_wait),
    )


def breaker_rule(breaker: CircuitBreaker, signature: Signature, values: Arguments) -> BreakerRule:
    """
    Return the breaker of a call.
    """
    return BreakerRule(
        id=_id(breaker.name, breaker.key, signature, values),
        failure_rate=breaker.failure_rate,
        minimum_calls=breaker.minimum_calls,
        window=seconds(breaker.window),
        window_calls=breaker.window_calls or 0,
        slow_call=0.0 if breaker.slow_call is None else seconds(breaker.slow_call),
        slow_call_rate=breaker.slow_call_rate,
        cool_down=seconds(breaker.cool_down),
        growth=breaker.growth,
        longest=max(seconds(breaker.longest_cool_down), seconds(breaker.cool_down)),
        trials=breaker.trials,
        ramp=breaker.ramp,
        lease=seconds(breaker.lease),
    )


def limit_rule(limit: Limit, signature: Signature, values: Arguments) -> RateRule | SlotRule | BudgetRule:
    """
    Return the limit of a call.
    """
    name = _id(limit.name, limit.key, signature, values)
    if isinstance(limit, RetryBudget):
        return BudgetRule(name, limit.share, limit.reserve)
    cost = cost_of(limit, values[0], dict(values[1]))
    if isinstance(limit, ConcurrencyLimit):
        return SlotRule(name, limit.slots, seconds(limit.lease), cost, limit.dry_run)
    burst = limit.burst or limit.limit
    return RateRule(name, limit.limit, seconds(limit.per), burst, cost, limit.algorithm == "sliding", limit.dry_run)


def _id(name: str, key: Key | None, signature: Signature, values: Arguments) -> str:
    return name if key is None else f"{name}|{render_key(key, signature, *values)}"


def _fingerprint(arguments: Mapping[str, Any]) -> str:
    text = json.dumps(arguments, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _all(task: str, word: str, given: Any, kind: Any) -> tuple[Any, ...]:
    found = () if given is None else tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for value in found:
        if not isinstance(value, kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(one.__name__ for one in kinds)
            raise PolicyError(f"{task}: {word} expected a {expected} or a list of them, got {value!r}.")
    return found
