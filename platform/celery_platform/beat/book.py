"""
Hold the enabled entries in memory, ordered by when they are due; a row that cannot work is disabled, never fatal.
"""

from __future__ import annotations

import heapq
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery_platform import events
from celery_platform.beat.ledger import write_plans
from celery_platform.beat.recurrence import instants
from celery_platform.beat.rows import RELATED, basis, entry_of
from celery_platform.errors import PlatformError
from celery_platform.events import EntryDisabled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from celery_platform.beat.entries import Entry
    from celery_platform.beat.ledger import Ledger

__all__ = ["Book", "Live", "deadline_after"]

logger = logging.getLogger("celery_platform.beat.book")

_BATCH = 500


@dataclass(slots=True, eq=False)
class Live:
    """An enabled entry with its row and its progress; *row.plan* holds what is written back."""

    entry: Entry
    row: Any
    raw: tuple[Any, ...]

    @property
    def plan(self) -> Any:
        """
        The entry's `Plan` row.
        """
        return self.row.plan

    @property
    def due_at(self) -> datetime | None:
        """
        When the next firing is due: its nominal time and the jitter of it.
        """
        nominal: datetime | None = self.plan.next_at
        return None if nominal is None else nominal + self.entry.delay(nominal)

    @property
    def spent(self) -> bool:
        """
        Tell whether the entry has had all the runs it may have.
        """
        most = self.entry.rules.max_runs
        return most is not None and self.plan.runs >= most

    def paused(self, now: datetime) -> bool:
        """
        Tell whether the entry is paused at *now*.
        """
        plan = self.plan
        return (
            plan.paused_at is not None
            and plan.paused_at <= now
            and (plan.paused_until is None or now < plan.paused_until)
        )


class Book:
    """All enabled entries, by name, and a heap of what is due next."""

    def __init__(self) -> None:
        self.by_name: dict[str, Live] = {}
        #: Entries that must have succeeded by some time of day.
        self.watched: list[Live] = []
        self._heap: list[tuple[datetime, int, Live]] = []

    def load(self, ledger: Ledger, now: datetime) -> None:
        """
        Read every enabled row; rows that did not change are not parsed again.
        """
        from django_celery_beat.models import PeriodicTask

        from celery_platform.beat.site.models import Plan

        bare = PeriodicTask.objects.filter(plan__isnull=True).values_list("pk", flat=True)
        Plan.objects.bulk_create([Plan(periodic_id=pk) for pk in bare], ignore_conflicts=True, batch_size=_BATCH)
        stopped = Plan.objects.filter(periodic__enabled=False, next_at__isnull=False)
        if stopped.exists():
            stopped.update(next_at=None)
        before, self.by_name = self.by_name, {}
        for row in PeriodicTask.objects.filter(enabled=True).select_related(*RELATED):
            live = self._live(row, before.get(row.name), ledger)
            if live is not None:
                self.by_name[row.name] = live
        self._set_times(ledger, now)
        self.watched = [live for live in self.by_name.values() if live.plan.alarm_at is not None]
        self._heap = [(due, live.row.pk, live) for live in self.by_name.values() if (due := live.due_at) is not None]
        heapq.heapify(self._heap)

    @staticmethod
    def _live(row: Any, known: Live | None, ledger: Ledger) -> Live | None:
        schedule = (row.interval, row.crontab, row.solar, row.clocked)
        columns = (row.task, row.args, row.kwargs, row.queue, row.one_off, row.start_time, row.expires, row.description)
        shapes = tuple(tuple(vars(part).values())[1:] if part is not None else None for part in schedule)
        raw = (columns, shapes, row.plan.rules, row.plan.recurrence, row.plan.row_print)
        if known is not None and known.raw == raw:
            return Live(known.entry, row, raw)
        try:
            return Live(entry_of(row), row, raw)
        except Exception as error:  # noqa: BLE001 - whatever a row holds, the other entries go on
            reason = str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}: {error}"
            logger.error("The schedule entry %r was disabled: %s", row.name, reason)  # noqa: TRY400
            ledger.disable(row.pk, reason)
            events.emit(EntryDisabled(entry=row.name, task=row.task, reason=reason))
            return None

    def _set_times(self, ledger: Ledger, now: datetime) -> None:
        changed = []
        for live in self.by_name.values():
            plan, entry, text = live.plan, live.entry, basis(live.entry)
            if plan.basis != text:
                plan.basis, plan.next_at, plan.alarm_at = text, entry.after(now), None
                changed.append(plan)
            elif plan.next_at is None and not live.spent and (first := entry.after(now)) is not None:
                plan.next_at = first
                changed.append(plan)
            wanted = deadline_after(entry, now)
            if (plan.alarm_at is None) != (wanted is None):
                plan.alarm_at = wanted
                changed.append(plan)
        unique = list({plan.pk: plan for plan in changed}.values())
        if unique:
            with ledger.writing():
                write_plans(unique)

    def due(self, now: datetime, most: int) -> Iterator[Live]:
        """
        Take up to *most* entries that are due; each must be `put` back.
        """
        for _ in range(most):
            if not self._heap or self._heap[0][0] > now:
                return
            _, _, live = heapq.heappop(self._heap)
            # After a reload the heap is new; an entry that was dropped from the book is in no heap.
            yield live

    def put(self, live: Live) -> None:
        """
        Order *live* by its next firing; without one it is left out.
        """
        if (due := live.due_at) is not None and self.by_name.get(live.entry.name) is live:
            heapq.heappush(self._heap, (due, live.row.pk, live))

    def drop(self, live: Live) -> None:
        """
        Forget *live*.
        """
        self.by_name.pop(live.entry.name, None)

    @property
    def next_due(self) -> datetime | None:
        """
        When anything is due next.
        """
        return self._heap[0][0] if self._heap else None


def deadline_after(entry: Entry, moment: datetime) -> datetime | None:
    """
    Return the next time of day by which *entry* must have succeeded, after *moment*, or nothing without `succeed_by`.
    """
    from datetime import datetime as moment_type
    from datetime import time, timedelta

    if entry.rules.succeed_by is None:
        return None
    clock = time.fromisoformat(entry.rules.succeed_by)
    zone = entry.rules.calendar.zone
    day = moment.astimezone(zone).date() - timedelta(days=1)
    for offset in range(4):
        wall = moment_type.combine(day + timedelta(days=offset), clock)
        found = instants(wall, zone, "shift", "first")[0]
        if found > moment:
            return found
    return None
