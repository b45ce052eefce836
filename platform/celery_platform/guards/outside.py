"""
Use guards around any code, outside of tasks: a breaker around a call, a slot around a block.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery_platform.errors import BreakerOpen, LimitExceeded, StoreError
from celery_platform.guards.circuit_breaker import CircuitBreaker
from celery_platform.guards.key_template import Signature
from celery_platform.guards.refusals import sentence
from celery_platform.guards.rules import breaker_rule, limit_rule
from celery_platform.guards.ticket import RENEWAL, Ticket
from celery_platform.outcomes import Buried, Skipped, Succeeded
from celery_platform.stores.guard_state import Admitted, Refused, Request, Settlement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_platform.guards.limits import Limit
    from celery_platform.stores.redis_guards import RedisGuards

__all__ = ["guarded"]


@contextmanager
def guarded(state: RedisGuards, *guards: CircuitBreaker | Limit) -> Iterator[Ticket]:
    """
    Run a block under *guards*, which are shared with all tasks that name the same ones.

    ``with guarded(current_platform().guards, breaker, limit):``. Keys of the guards cannot name arguments here. The
    ticket given tells `cancelled` and takes `spent`. An exception of the block counts for the breakers and goes on.

    Raises `BreakerOpen` or `LimitExceeded`, with `retry_after` in seconds; `StoreError` when a guard's `on_outage` says
    ``defer`` and the store is away.
    """
    nothing = Signature(lambda: None)
    rules = [
        breaker_rule(guard, nothing, ((), {}))
        if isinstance(guard, CircuitBreaker)
        else limit_rule(guard, nothing, ((), {}))
        for guard in guards
    ]
    nonce = uuid.uuid4().hex[:16]
    request = Request(nonce, "outside", nonce, rules, dropping=[rule.id for rule in rules])
    admitted = _ask(state, request, guards)
    ticket = Ticket(state, state, request, admitted)
    RENEWAL.keep(ticket)
    try:
        yield ticket
    except Exception as error:
        _tell(ticket, guards, Buried("raised", error))
        raise
    except BaseException:
        # An order to stop says nothing about the dependency.
        _tell(ticket, guards, Skipped("interrupted", discarded=True))
        raise
    else:
        _tell(ticket, guards, Succeeded())


def _ask(state: RedisGuards, request: Request, guards: tuple[CircuitBreaker | Limit, ...]) -> Admitted | None:
    try:
        answer = state.admit(request)
    except StoreError:
        if any(guard.on_outage == "defer" for guard in guards):
            raise
        return None
    if isinstance(answer, Refused):
        kind = BreakerOpen if answer.guard == "breaker" else LimitExceeded
        error = kind(f"{sentence(answer.guard, answer.id, answer.why)}; try again in {answer.delay:.1f} s.")
        error.retry_after = answer.delay
        raise error
    return answer


def _tell(ticket: Ticket, guards: tuple[CircuitBreaker | Limit, ...], outcome: Succeeded | Skipped | Buried) -> None:
    RENEWAL.drop(ticket)
    if ticket.admitted is None:
        return
    breakers = [guard for guard in guards if isinstance(guard, CircuitBreaker)]
    verdicts = {breaker.name: breaker.judge(outcome) for breaker in breakers}
    settlement = Settlement("done", ran=ticket.ran, verdicts=verdicts, actual=ticket.actual)
    try:
        ticket.state.settle(ticket.request, ticket.admitted, settlement)
    except StoreError:
        # What was held lapses with its lease.
        return
