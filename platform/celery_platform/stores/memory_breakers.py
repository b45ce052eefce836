"""
Circuit breakers in this process's memory.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery_platform.stores.guard_state import Move
from celery_platform.stores.memory_records import Verdict

if TYPE_CHECKING:
    from celery_platform.stores.guard_state import Admitted, BreakerRule, Request, Settlement
    from celery_platform.stores.memory_records import Records

__all__ = ["MemoryBreakers"]

_FORCED = ("forced_open", "disabled", "metrics_only")
_RAMP_SECONDS = 15.0
_BUCKETS = 10


@dataclass(slots=True)
class Breaker:
    """One breaker; times are Unix seconds."""

    state: str = "closed"
    epoch: int = 0
    until: float = 0.0
    opens: int = 0
    parked: int = 0
    ramp: float | None = None
    released: int = 0
    good: int = 0
    bad: int = 0
    permits: dict[str, float] = field(default_factory=dict)
    window: list[tuple[float, bool, bool]] = field(default_factory=list)


class MemoryBreakers:
    """All breakers; *moves* are the transitions since it was last cleared."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._breakers: dict[str, Breaker] = {}
        self.moves: list[Move] = []

    def epoch(self, name: str) -> int:
        """
        Return how often the breaker has changed its state.
        """
        return self._breaker(name).epoch

    def check(self, rule: BreakerRule, request: Request) -> Verdict:
        """
        Say whether the breaker lets the call through.
        """
        breaker, now = self._breaker(rule.id), self._records.now()
        self._advance(rule.id, breaker)
        if breaker.state == "open":
            return self._park(rule, breaker, breaker.until - now + 0.001)
        if breaker.state == "forced_open":
            left = breaker.until - now + 0.001 if breaker.until else rule.cool_down
            return self._park(rule, breaker, min(left, rule.cool_down))
        if breaker.state == "half_open":
            return self._check_trial(rule, breaker, request)
        if breaker.state == "closed" and breaker.ramp is not None:
            return self._check_ramp(rule, breaker, request, breaker.ramp)
        return Verdict(rule.id)

    def settle(self, rule: BreakerRule, request: Request, admitted: Admitted, settlement: Settlement) -> None:
        """
        Count how the call ended, unless the breaker has moved on since it was admitted.
        """
        breaker = self._breaker(rule.id)
        if breaker.epoch != admitted.breakers.get(rule.id, -1):
            return
        verdict = settlement.verdicts.get(rule.id, "ignored")
        slow = rule.slow_call > 0 and settlement.ran >= rule.slow_call
        if breaker.state == "half_open":
            self._end_trial(rule, breaker, request, verdict, slow=slow)
        elif verdict != "ignored" and breaker.state in {"closed", "metrics_only"}:
            self._count(rule, breaker, failed=verdict == "failure", slow=slow)

    def renew(self, rule: BreakerRule, request: Request) -> None:
        """
        Extend the permit of a trial, if it still has one.
        """
        breaker = self._breaker(rule.id)
        if breaker.permits.get(request.nonce, 0.0) > self._records.now():
            breaker.permits[request.nonce] = self._records.now() + rule.lease

    def force(self, name: str, state: str, *, seconds: float | None, reason: str) -> str:
        """
        Put a breaker into *state*; return the state it was in.
        """
        del reason
        breaker, before = self._breaker(name), self._breaker(name).state
        ramp = self._records.now() if state == "closed" != before else None
        until = 0.0 if state == "closed" else self._records.now() + (30 * 86_400 if seconds is None else seconds)
        self._breakers[name] = Breaker(state, breaker.epoch + 1, until, ramp=ramp)
        return before

    def _breaker(self, name: str) -> Breaker:
        return self._breakers.setdefault(name, Breaker())

    def _advance(self, name: str, breaker: Breaker) -> None:
        now = self._records.now()
        if breaker.state in _FORCED and 0 < breaker.until <= now:
            self._close(name, breaker)
        elif breaker.state == "open" and breaker.until <= now:
            self._move(name, breaker, "half_open")
            breaker.good = breaker.bad = 0
            breaker.permits.clear()

    def _move(self, name: str, breaker: Breaker, state: str) -> None:
        self.moves.append(Move(name, breaker.state, state))
        breaker.state, breaker.parked = state, 0
        breaker.epoch += 1

    def _close(self, name: str, breaker: Breaker) -> None:
        self._move(name, breaker, "closed")
        breaker.opens, breaker.until, breaker.released = 0, 0.0, 0
        breaker.ramp = self._records.now()
        breaker.window.clear()

    def _open(self, rule: BreakerRule, breaker: Breaker) -> None:
        breaker.opens += 1
        wait = min(rule.cool_down * rule.growth ** (breaker.opens - 1), rule.longest)
        self._move(rule.id, breaker, "open")
        breaker.until = self._records.now() + wait * (1 + 0.1 * random.random())  # noqa: S311
        breaker.ramp = None

    def _park(self, rule: BreakerRule, breaker: Breaker, delay: float) -> Verdict:
        breaker.parked += 1
        if breaker.parked > rule.trials:
            delay += 1 + _ramped(breaker.parked - rule.trials, rule.ramp)
        return Verdict.refusing("breaker", rule.id, breaker.state, delay=delay)

    def _check_trial(self, rule: BreakerRule, breaker: Breaker, request: Request) -> Verdict:
        now = self._records.now()
        breaker.permits = {nonce: end for nonce, end in breaker.permits.items() if end > now}
        if len(breaker.permits) + breaker.good + breaker.bad >= rule.trials:
            return self._park(rule, breaker, max(1.0, rule.cool_down / 4))
        return Verdict(rule.id, commit=lambda: breaker.permits.update({request.nonce: now + rule.lease}))

    def _check_ramp(self, rule: BreakerRule, breaker: Breaker, request: Request, started: float) -> Verdict:
        now, record = self._records.now(), self._records.get(request.call_id)
        if now - started > _RAMP_SECONDS:
            breaker.ramp = None
            return Verdict(rule.id)
        name = f"{rule.id}@{breaker.epoch}"
        if record is not None and record.reserved.get(name, math.inf) <= now:
            return Verdict(rule.id)
        due = started + _ramped(breaker.released + 1, rule.ramp)

        def release() -> None:
            breaker.released += 1

        if due <= now:
            return Verdict(rule.id, commit=release)
        release()
        self._records.make(request.call_id).reserved[name] = due
        return Verdict.refusing("breaker", rule.id, "closed", delay=due - now)

    def _end_trial(self, rule: BreakerRule, breaker: Breaker, request: Request, verdict: str, *, slow: bool) -> None:
        if breaker.permits.pop(request.nonce, None) is None or verdict == "ignored":
            return
        failed = verdict == "failure" or slow
        breaker.good, breaker.bad = breaker.good + (not failed), breaker.bad + failed
        if breaker.good + breaker.bad < rule.trials:
            return
        if breaker.bad / rule.trials >= rule.failure_rate:
            self._open(rule, breaker)
        else:
            self._close(rule.id, breaker)

    def _count(self, rule: BreakerRule, breaker: Breaker, *, failed: bool, slow: bool) -> None:
        now = self._records.now()
        breaker.window.append((now, failed, slow and not (failed and rule.window_calls)))
        if rule.window_calls:
            breaker.window = breaker.window[-rule.window_calls :]
        else:
            width = rule.window / _BUCKETS
            oldest = (now // width - _BUCKETS + 1) * width
            breaker.window = [one for one in breaker.window if one[0] >= oldest]
        calls = len(breaker.window)
        if breaker.state != "closed" or calls < rule.minimum_calls:
            return
        failures = sum(one[1] for one in breaker.window) / calls
        slows = sum(one[2] for one in breaker.window) / calls
        if failures >= rule.failure_rate or (rule.slow_call > 0 and slows >= rule.slow_call_rate):
            self._open(rule, breaker)


def _ramped(number: int, ramp: float) -> float:
    return math.log2(1 + number / ramp)
