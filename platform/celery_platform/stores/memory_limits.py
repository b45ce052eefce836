"""
Rate and concurrency limits in this process's memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery_platform.stores.guard_state import BudgetRule, RateRule, SlotRule
from celery_platform.stores.memory_records import Verdict

if TYPE_CHECKING:
    from celery_platform.stores.guard_state import Request, Settlement
    from celery_platform.stores.memory_records import Records

__all__ = ["MemoryLimits"]

# How long after its time a call at the head of the line is believed to come back, in seconds.
_PATIENCE = 30.0


@dataclass(slots=True)
class Rate:
    """When the next call fits (*tat*), and when the next reservation does; the log of a sliding window."""

    tat: float = 0.0
    reserved: float = 0.0
    log: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Slots:
    """Who holds slots (nonce to lease end and cost), who waits in which order, and the typical run time."""

    held: dict[str, tuple[float, float]] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    mean: float = 0.2


class MemoryLimits:
    """All limits."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._rates: dict[str, Rate] = {}
        self._slots: dict[str, Slots] = {}
        self._budgets: dict[str, tuple[float, float]] = {}

    def check_rate(self, rule: RateRule, request: Request) -> Verdict:
        """
        Say whether the call fits into the rate, and reserve its moment when it does not.
        """
        rate = self._rates.setdefault(rule.id, Rate())
        verdict = self._sliding(rule, rate, request) if rule.sliding else self._gcra(rule, rate, request)
        verdict.dry = rule.dry_run
        return verdict

    def check_slots(self, rule: SlotRule, request: Request) -> Verdict:
        """
        Say whether a slot is free for the call and nobody stands before it.
        """
        slots, now = self._slots.setdefault(rule.id, Slots()), self._records.now()
        slots.held = {nonce: one for nonce, one in slots.held.items() if one[0] > now}
        free = rule.slots - sum(cost for _, cost in slots.held.values())
        self._drop_lost(slots, request)
        mine = request.call_id in slots.waiting
        ahead = slots.waiting.index(request.call_id) if mine else len(slots.waiting)

        def take() -> None:
            slots.held[request.nonce] = (now + rule.lease, rule.cost)
            if request.call_id in slots.waiting:
                slots.waiting.remove(request.call_id)

        if free - ahead >= rule.cost:
            return Verdict(rule.id, commit=take, dry=rule.dry_run)
        delay = min(max(slots.mean * (ahead + 1 - max(free, 0)) / rule.slots, 0.05), 60.0)
        verdict = Verdict.refusing("concurrency", rule.id, "limit", delay=delay)
        verdict.dry = rule.dry_run
        verdict.reserve = lambda: None if mine else slots.waiting.append(request.call_id)
        return verdict

    def check_budget(self, rule: BudgetRule, request: Request) -> Verdict:
        """
        Say whether the fleet may still retry; a first try earns its share.
        """
        now, pace = self._records.now(), rule.reserve / 60
        saved, at = self._budgets.get(rule.id, (rule.reserve, now))
        saved = min(saved + (now - at) * pace, rule.reserve)
        after = saved - 1 if request.failures > 0 else min(saved + rule.share, rule.reserve)
        if after < 0:
            return Verdict.refusing("budget", rule.id, "spent", delay=-after / pace)
        return Verdict(rule.id, commit=lambda: self._budgets.update({rule.id: (after, now)}))

    def settle(self, rule: RateRule | SlotRule | BudgetRule, request: Request, settlement: Settlement) -> None:
        """
        Give back the slot, or what the call did not cost.
        """
        if isinstance(rule, RateRule):
            if not rule.sliding and rule.id in settlement.actual:
                back = rule.per / rule.limit * (rule.cost - settlement.actual[rule.id])
                rate = self._rates.setdefault(rule.id, Rate())
                rate.tat, rate.reserved = rate.tat - back, rate.reserved - back
            return
        if isinstance(rule, BudgetRule):
            return
        slots = self._slots.setdefault(rule.id, Slots())
        if slots.held.pop(request.nonce, None) is not None:
            slots.mean = slots.mean * 0.8 + settlement.ran * 0.2

    def renew(self, rule: RateRule | SlotRule | BudgetRule, request: Request) -> None:
        """
        Extend the lease of a slot, if the call still has one.
        """
        if not isinstance(rule, SlotRule):
            return
        slots, now = self._slots.setdefault(rule.id, Slots()), self._records.now()
        if slots.held.get(request.nonce, (0.0, 0.0))[0] > now:
            slots.held[request.nonce] = (now + rule.lease, rule.cost)

    def _gcra(self, rule: RateRule, rate: Rate, request: Request) -> Verdict:
        now, record = self._records.now(), self._records.get(request.call_id)
        mine = record.reserved.get(rule.id) if record else None
        step, slack = rule.per / rule.limit * rule.cost, rule.per / rule.limit * rule.burst
        following = max(rate.tat, now) + step
        queued = max(rate.tat, rate.reserved, now) + step
        at = following - slack
        if mine is None or mine > now + 0.001:
            at = max(at, queued - slack)

        def take() -> None:
            rate.tat, rate.reserved = following, max(rate.reserved, following)

        def reserve() -> None:
            rate.reserved = queued if mine is None else rate.reserved
            self._records.make(request.call_id).reserved[rule.id] = at

        if at <= now + 1e-6:
            return Verdict(rule.id, commit=take)
        verdict = Verdict.refusing("rate", rule.id, "limit", delay=at - now)
        verdict.reserve = reserve
        return verdict

    def _sliding(self, rule: RateRule, rate: Rate, request: Request) -> Verdict:
        now = self._records.now()
        rate.log = {call: at for call, at in rate.log.items() if at > now - rule.per}
        mine = rate.log.get(request.call_id)
        times = sorted(rate.log.values())
        at = now
        if mine is not None and mine > now:
            at = mine
        else:
            before = len([one for one in times if one <= now]) - 1 if mine is not None else len(times)
            rank = int(before - rule.limit)
            at = max(now, times[rank] + rule.per + 1e-6) if rank >= 0 else now

        def book() -> None:
            rate.log[request.call_id] = at

        if at <= now:
            return Verdict(rule.id, commit=book)
        verdict = Verdict.refusing("rate", rule.id, "limit", delay=at - now)
        verdict.reserve = book
        return verdict

    def _drop_lost(self, slots: Slots, request: Request) -> None:
        now = self._records.now()
        for call_id in slots.waiting[:]:
            record = self._records.get(call_id)
            if call_id != request.call_id and (record is None or record.until < now - _PATIENCE):
                slots.waiting.remove(call_id)
