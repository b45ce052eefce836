"""
Ask all guards of a call before its body, and tell them after it: two round trips to the store, whatever their number.
"""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from celery_platform import events
from celery_platform.clock import SYSTEM
from celery_platform.current import current_or_none
from celery_platform.errors import PayloadInvalid, StoreError
from celery_platform.guards.refusals import outcome_of
from celery_platform.guards.rules import claim_rule
from celery_platform.guards.ticket import RENEWAL, Ticket
from celery_platform.outcomes import Buried, Deferred, Retrying, Skipped, Succeeded
from celery_platform.stores.guard_state import Claim, Refused, Request, Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celery_platform.clock import Clock
    from celery_platform.guards.rules import Arguments, Guards
    from celery_platform.outcomes import Call, Outcome
    from celery_platform.stores.guard_state import Claimed, Move, Settled
    from celery_platform.stores.redis_guards import RedisGuards

__all__ = ["GuardAdmission"]

logger = logging.getLogger("celery_platform.guards")

# How long a finished call waits for a store that does not answer, before its outcome goes unrecorded.
_PATIENCE = (0.1, 0.3, 1.0)
_LONGEST_WAIT = 30.0


class Home(Protocol):
    """What owns the shared state: the platform."""

    @property
    def guards(self) -> RedisGuards:
        """
        The shared state of all guards.
        """


class GuardAdmission:
    """
    The guards of *task* on the state store of *home*.

    *load* turns wire arguments into the body's, *dump* a returned value into its wire form.
    """

    def __init__(
        self,
        task: str,
        guards: Guards,
        home: Home,
        *,
        load: Callable[[Any, Any], Arguments],
        dump: Callable[[Any], Any] = lambda value: value,
        clock: Clock = SYSTEM,
    ) -> None:
        self.task = task
        self.guards = guards
        self._home = home
        self._load = load
        self._dump = dump
        self._clock = clock

    @property
    def state(self) -> RedisGuards:
        """
        The shared state, connected when it is first asked.
        """
        return self._home.guards

    def claim(self, call_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, delay: float) -> Claimed | None:
        """
        Take the key of a call that is about to be enqueued; nothing when the store is away: it is taken at the run.
        """
        claim = self._claim(call_id, (tuple(args), kwargs), delay)
        try:
            return self.state.claim(claim)
        except StoreError as error:
            self._tell_outage(call_id, "allow", error)
            return None

    def key_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """
        Return the idempotency key of a call with these wire arguments; empty when the task has none.
        """
        policy = self.guards.idempotency
        wire = (tuple(args), kwargs)
        return "" if policy is None else claim_rule(policy, self.guards.signature, wire, self._load(*wire)).key

    def unclaim(self, call_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """
        Give the key of a call back that was not enqueued, or ended before it was admitted.
        """
        if self.guards.idempotency is None:
            return
        try:
            self.state.unclaim(self._claim(call_id, (tuple(args), kwargs), 0.0))
        except (StoreError, PayloadInvalid) as error:
            logger.warning("The key of %s[%s] was not given back and lapses by itself: %s", self.task, call_id, error)

    def admit(self, call: Call) -> Ticket | Skipped | Deferred | Buried:
        """
        Return a ticket when every guard says yes, or what becomes of the call.
        """
        try:
            request, values = self._request(call)
        except PayloadInvalid as error:
            return Buried("invalid", error)
        try:
            answer = self.state.admit(request)
        except StoreError as error:
            return self._without_store(call, request, error)
        self._tell_moves(call.id, answer.moved)
        if isinstance(answer, Refused):
            return self._refused(call, answer, values)
        for limit in answer.over:
            events.emit(events.LimitPassed(call_id=call.id, task=self.task, limit=limit))
        return self._ticket(Ticket(self.state, self.state, request, answer, self._clock))

    def settle(self, call: Call, ticket: object, outcome: Outcome) -> Outcome:
        """
        Tell the guards, and return *outcome*; the outcome of a run that was overtaken does not count.
        """
        if not isinstance(ticket, Ticket):
            return outcome
        if ticket.admitted is None:
            return ticket.ended(outcome)
        RENEWAL.drop(ticket)
        outcome = ticket.ended(outcome)
        settled = self._settled(ticket, self._settlement(ticket, outcome))
        if settled is None:
            return outcome
        self._tell_moves(call.id, settled.moved)
        if not settled.fenced:
            return outcome
        logger.error("%s[%s] was overtaken by another run while it ran; this outcome is not kept.", call.task, call.id)
        if settled.result is None:
            return Skipped("overtaken by another run", discarded=True)
        return Skipped("overtaken by another run", value=json.loads(settled.result))

    def _claim(self, call_id: str, wire: Arguments, delay: float) -> Claim:
        if self.guards.idempotency is None:
            raise TypeError(f"{self.task} has no idempotency policy.")
        values = self._load(*wire)
        return Claim(
            call_id, self.task, claim_rule(self.guards.idempotency, self.guards.signature, wire, values, delay=delay)
        )

    def _request(self, call: Call) -> tuple[Request, Arguments]:
        wire = (call.args, call.kwargs)
        values = self._load(*wire)
        rules = self.guards.rules(wire, values)
        offset = len(rules) - len(self.guards.limits)
        first = offset - len(self.guards.breakers)
        breakers = zip(self.guards.breakers, rules[first:offset], strict=True)
        limits = zip(self.guards.limits, rules[offset:], strict=True)
        dropping = [getattr(rule, "id", "") for breaker, rule in breakers if breaker.policy != "park"]
        dropping += [getattr(rule, "id", "") for limit, rule in limits if limit.policy == "drop"]
        subjects = [f"task:{self.task}", *(f"key:{_key_of(rule)}" for rule in rules)]
        if call.queue:
            subjects.append(f"queue:{call.queue}")
        nonce = uuid.uuid4().hex[:16]
        return Request(call.id, self.task, nonce, rules, subjects, dropping, call.failures), values

    def _ticket(self, ticket: Ticket) -> Ticket:
        running = current_or_none()
        if running is not None:
            running.hold = ticket
        if ticket.admitted is not None:
            RENEWAL.keep(ticket)
        return ticket

    def _refused(self, call: Call, refused: Refused, values: Arguments) -> Skipped | Deferred | Buried:
        outcome = outcome_of(call, refused, self.guards, values, self._dump)
        ends = isinstance(outcome, Buried) or (isinstance(outcome, Skipped) and refused.guard != "idempotency")
        if ends:
            self.unclaim(call.id, call.args, call.kwargs)
        return outcome

    def _without_store(self, call: Call, request: Request, error: StoreError) -> Ticket | Deferred:
        cautious = any(guard.on_outage == "defer" for guard in (*self.guards.breakers, *self.guards.limits))
        if self.guards.idempotency is not None or cautious:
            self._tell_outage(call.id, "defer", error)
            wait = min(2.0 ** min(call.deferrals, 5), _LONGEST_WAIT) * (0.75 + random.random() / 2)  # noqa: S311
            return Deferred(wait, "the guards' store cannot be reached", "store")
        self._tell_outage(call.id, "allow", error)
        return self._ticket(Ticket(self.state, self.state, request, None, self._clock))

    def _settlement(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        offset = 1 if self.guards.idempotency is not None else 0
        pairs = zip(self.guards.breakers, ticket.request.rules[offset:], strict=False)
        verdicts = {getattr(rule, "id", ""): breaker.judge(outcome) for breaker, rule in pairs}
        waits = isinstance(outcome, (Retrying, Deferred))
        done = isinstance(outcome, Succeeded) or (isinstance(outcome, Skipped) and _is_answer(outcome))
        return Settlement(
            ending="waiting" if waits else "done" if done else "freed",
            result=self._kept(outcome.value) if isinstance(outcome, (Succeeded, Skipped)) and done else None,
            ran=ticket.ran,
            delay=outcome.delay if isinstance(outcome, (Retrying, Deferred)) else 0.0,
            verdicts=verdicts,
            actual=ticket.actual,
        )

    def _kept(self, value: Any) -> str | None:
        policy = self.guards.idempotency
        if policy is None:
            return None
        try:
            text = json.dumps(value)
        except (TypeError, ValueError):
            return None
        return text if len(text) <= policy.largest_result else None

    def _settled(self, ticket: Ticket, settlement: Settlement) -> Settled | None:
        if ticket.admitted is None:
            return None
        for wait in (*_PATIENCE, None):
            try:
                return self.state.settle(ticket.request, ticket.admitted, settlement)
            except StoreError as error:
                if wait is None:
                    self._tell_outage(ticket.request.call_id, "allow", error)
                    return None
                time.sleep(wait)
        return None

    def _tell_moves(self, call_id: str, moves: Sequence[Move]) -> None:
        for move in moves:
            logger.warning("Circuit breaker %s: %s -> %s", move.breaker, move.was, move.now)
            events.emit(
                events.BreakerMoved(call_id=call_id, task=self.task, breaker=move.breaker, was=move.was, now=move.now)
            )

    def _tell_outage(self, call_id: str, rule: str, error: StoreError) -> None:
        logger.error("The guards of %s[%s] could not be asked (%s): %s", self.task, call_id, rule, error)
        events.emit(events.GuardsUnreachable(call_id=call_id, task=self.task, rule=rule, error=str(error)))


def _is_answer(outcome: Skipped) -> bool:
    # An exception in its place is a signal to the engine (`Ignore`, `Reject`), and no result.
    return not outcome.discarded and not isinstance(outcome.value, BaseException)


def _key_of(rule: Any) -> str:
    return getattr(rule, "key", None) or str(rule.id)
