"""
The twin of the Redis guards in this process's memory, for tests and for trying policies out.

It keeps the same fields as the scripts and answers as they do; `tests/contracts` holds both to one suite.
"""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from celery_platform.clock import SYSTEM
from celery_platform.stores.guard_state import (
    Admitted,
    BreakerRule,
    BudgetRule,
    CallRecord,
    Claimed,
    ClaimRule,
    RateRule,
    Refused,
    Settled,
)
from celery_platform.stores.memory_breakers import MemoryBreakers
from celery_platform.stores.memory_claims import MemoryClaims
from celery_platform.stores.memory_limits import MemoryLimits
from celery_platform.stores.memory_records import Records

if TYPE_CHECKING:
    from celery_platform.clock import Clock
    from celery_platform.stores.guard_state import Claim, Request, Rule, Settlement
    from celery_platform.stores.memory_records import Verdict

__all__ = ["MemoryGuards"]


class MemoryGuards:
    """All guards of one process; safe to use from several threads."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._records = Records(clock)
        self._claims = MemoryClaims(self._records)
        self._breakers = MemoryBreakers(self._records)
        self._limits = MemoryLimits(self._records)
        self._pauses: dict[str, tuple[str, float]] = {}
        self._cancelled: set[str] = set()

    def claim(self, claim: Claim) -> Claimed:
        """
        Take an idempotency key for a call that is being enqueued, or say who holds it.
        """
        with self._lock:
            return self._claims.enqueue(claim)

    def unclaim(self, claim: Claim) -> None:
        """
        Give back the key of a call that could not be published.
        """
        with self._lock:
            self._claims.release(claim.task, claim.rule.key, owner=claim.call_id)

    def admit(self, request: Request) -> Admitted | Refused:
        """
        Admit the call under all its rules, or take nothing and say which rule refused.
        """
        with self._lock:
            self._breakers.moves.clear()
            verdicts = self._ask(request)
            refused = _strictest(verdicts)
            if refused is not None:
                return self._refuse(request, refused)
            fence = 0
            for verdict in verdicts:
                fence = max(fence, verdict.commit() or 0)
            self._records.admitted(request.call_id, keep=any(isinstance(rule, ClaimRule) for rule in request.rules))
            epochs = {rule.id: self._breakers.epoch(rule.id) for rule in request.rules if isinstance(rule, BreakerRule)}
            return Admitted(fence, epochs, tuple(self._breakers.moves), tuple(v.id for v in verdicts if v.dry and v.no))

    def settle(self, request: Request, admitted: Admitted, settlement: Settlement) -> Settled:
        """
        Tell the guards how the admitted call ended.
        """
        with self._lock:
            self._breakers.moves.clear()
            settled = Settled()
            for rule in request.rules:
                if isinstance(rule, ClaimRule):
                    settled = self._claims.settle(rule, request, settlement)
                elif isinstance(rule, BreakerRule):
                    self._breakers.settle(rule, request, admitted, settlement)
                else:
                    self._limits.settle(rule, request, settlement)
            return replace(settled, moved=tuple(self._breakers.moves))

    def renew(self, request: Request) -> tuple[bool, bool]:
        """
        Keep what the running call holds for another lease; answer (still held, cancelled).
        """
        with self._lock:
            held = True
            for rule in request.rules:
                if isinstance(rule, ClaimRule):
                    held = self._claims.renew(rule, request) and held
                elif isinstance(rule, BreakerRule):
                    self._breakers.renew(rule, request)
                else:
                    self._limits.renew(rule, request)
            return held, request.call_id in self._cancelled

    def force(self, breaker: str, state: str, *, seconds: float | None = None, reason: str = "") -> str:
        """
        Put *breaker* into *state* for *seconds* (30 days by default); return the state it was in.
        """
        with self._lock:
            return self._breakers.force(breaker, state, seconds=seconds, reason=reason)

    def pause(self, subject: str, *, reason: str, until: float = 0.0) -> None:
        """
        Pause *subject* (``queue:x``, ``task:y``, ``key:z``) until a Unix time, or until it is resumed.
        """
        with self._lock:
            self._pauses[subject] = (reason, until)

    def resume(self, subject: str) -> bool:
        """
        End a pause; answer whether there was one.
        """
        with self._lock:
            return self._pauses.pop(subject, None) is not None

    def cancel(self, call_id: str) -> CallRecord | None:
        """
        Mark a call as cancelled, and return what is known of it.
        """
        with self._lock:
            self._cancelled.add(call_id)
            return self._records.shown(call_id)

    def call(self, call_id: str) -> CallRecord | None:
        """
        Return the record of a guarded call that waits, runs or is done, or nothing.
        """
        with self._lock:
            return self._records.shown(call_id)

    def _ask(self, request: Request) -> list[Verdict]:
        from celery_platform.stores.memory_records import Verdict

        if request.call_id in self._cancelled:
            return [Verdict.refusing("cancel", request.call_id, "cancelled", waits=False)]
        for subject in request.subjects:
            reason, until = self._pauses.get(subject, ("", -1.0))
            if until == 0 or until > self._clock.now():
                left = until - self._clock.now() if until else float("inf")
                return [Verdict.refusing("pause", subject, reason, delay=min(left, 1 + random.random() / 2))]  # noqa: S311
        verdicts: list[Verdict] = []
        for rule in request.rules:
            verdicts.append(self._check(rule, request))
            if verdicts[-1].refused is not None and verdicts[-1].guard in {"idempotency", "breaker"}:
                return verdicts[-1:]
        return verdicts

    def _check(self, rule: Rule, request: Request) -> Verdict:
        if isinstance(rule, ClaimRule):
            return self._claims.check(rule, request)
        if isinstance(rule, BreakerRule):
            return self._breakers.check(rule, request)
        if isinstance(rule, BudgetRule):
            return self._limits.check_budget(rule, request)
        if isinstance(rule, RateRule):
            return self._limits.check_rate(rule, request)
        return self._limits.check_slots(rule, request)

    def _refuse(self, request: Request, verdict: Verdict) -> Refused:
        refused = verdict.no
        assert refused is not None  # noqa: S101 - narrows for the type checker
        waited = 0.0
        if refused.waits and refused.id not in request.dropping:
            verdict.reserve()
            waited = self._records.parked(request.call_id, refused)
        return replace(refused, waited=waited, moved=tuple(self._breakers.moves))


def _strictest(verdicts: list[Verdict]) -> Verdict | None:
    refusing = [verdict for verdict in verdicts if verdict.refused is not None]
    return max(refusing, key=lambda verdict: verdict.refused.delay if verdict.refused else 0.0, default=None)
