"""
Remember calls that wait, run or are done, in this process's memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery_platform.stores.guard_state import CallRecord, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_platform.clock import Clock

__all__ = ["Record", "Records", "Verdict"]


@dataclass(slots=True)
class Record:
    """One call; times are Unix seconds."""

    state: str = "waiting"
    nonce: str = ""
    lease: float = 0.0
    started: bool = False
    result: str | None = None
    expires: float = float("inf")
    first: float | None = None
    deferrals: int = 0
    parked: Refused | None = None
    until: float = 0.0
    reserved: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Verdict:
    """What one rule says: *commit* takes what it grants, *reserve* what a refused call may come back for."""

    id: str = ""
    no: Refused | None = None
    commit: Callable[[], int | None] = lambda: None
    reserve: Callable[[], None] = lambda: None
    dry: bool = False

    @classmethod
    def refusing(cls, guard: str, name: str, why: str, *, delay: float = 0.0, **more: Any) -> Verdict:
        """
        Return a refusal.
        """
        return cls(name, Refused(guard, name, why, max(delay, 0.0), **more))

    @property
    def refused(self) -> Refused | None:
        """
        The refusal, unless the rule only counts.
        """
        return None if self.dry else self.no

    @property
    def guard(self) -> str:
        """
        The guard that refuses, or nothing.
        """
        return self.no.guard if self.no else ""


class Records:
    """All calls that are known, each until it expires."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[str, Record] = {}

    def now(self) -> float:
        """
        Return the Unix time in seconds.
        """
        return self._clock.now()

    def get(self, call_id: str) -> Record | None:
        """
        Return a call that has not expired.
        """
        record = self._records.get(call_id)
        if record is not None and record.expires <= self.now():
            del self._records[call_id]
            return None
        return record

    def make(self, call_id: str) -> Record:
        """
        Return a call, known from now on.
        """
        return self.get(call_id) or self._records.setdefault(call_id, Record())

    def drop(self, call_id: str) -> None:
        """
        Forget a call.
        """
        self._records.pop(call_id, None)

    def parked(self, call_id: str, refused: Refused) -> float:
        """
        Note why a call waits, and return for how long it has waited.
        """
        record = self.make(call_id)
        if record.state != "running":
            record.state = "parked"
        record.first = self.now() if record.first is None else record.first
        record.deferrals += 1
        record.parked, record.until = refused, self.now() + refused.delay
        record.expires = max(record.until + 3600, record.expires if record.expires != float("inf") else 0)
        return self.now() - record.first

    def admitted(self, call_id: str, *, keep: bool) -> None:
        """
        Forget that a call waited; without a key to *keep*, forget it altogether.
        """
        record = self.get(call_id)
        if record is None:
            return
        if not keep:
            self.drop(call_id)
            return
        record.parked, record.first = None, None
        record.reserved.clear()

    def shown(self, call_id: str) -> CallRecord | None:
        """
        Return a call as listings show it.
        """
        record = self.get(call_id)
        if record is None:
            return None
        fields = {"n": str(record.deferrals), "state": record.state}
        if record.parked is not None:
            fields |= {"guard": record.parked.guard, "by": record.parked.id, "until": str(record.until * 1000)}
        return CallRecord(record.state, fields)
