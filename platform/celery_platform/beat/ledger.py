"""
Write what the leading scheduler decides, each decision in one transaction behind its fence.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery_platform.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

__all__ = ["Deposed", "Held", "Ledger", "call_id_of", "write_plans"]

_NAMESPACE = uuid.UUID("2f0a6c7e-6f0e-5d0b-9a53-0d6f2b1c5e77")
_BATCH = 200


class Deposed(PlatformError):  # noqa: N818 - a state, told by raising
    """Another scheduler has led since: nothing was written."""


def call_id_of(entry: str, nominal: datetime) -> str:
    """
    Return the id of the call that serves *entry* at *nominal*: the same whoever fires it.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{entry}\0{nominal.isoformat()}"))


@dataclass(slots=True, eq=False)
class Held:
    """A firing that has not ended, as the leader holds it in memory."""

    entry: str
    nominal: datetime
    state: str
    call_id: str = ""
    kind: str = "schedule"
    note: str = ""
    claimed_at: datetime | None = None
    sent_at: datetime | None = None
    lane: str = ""
    width: int = 0

    def __post_init__(self) -> None:
        self.call_id = self.call_id or call_id_of(self.entry, self.nominal)

    @property
    def running(self) -> bool:
        """
        Tell whether the firing occupies its entry: it is with the broker, or on its way.
        """
        return self.state in ("due", "sent")


class Ledger:
    """The tables, as the leader with *fence* may write them."""

    def __init__(self, fence: int) -> None:
        self.fence = fence

    @staticmethod
    def floor() -> int:
        """
        Return the highest fence that has ever written.
        """
        from celery_platform.beat.site.models import Leadership

        row = Leadership.objects.filter(pk=1).values_list("fence", flat=True).first()
        return int(row or 0)

    def enthrone(self) -> None:
        """
        Write the fence down: from here on every lower one is deposed.

        Raises `Deposed` when a higher one has written already.
        """
        from celery_platform.beat.site.models import Leadership

        Leadership.objects.get_or_create(pk=1, defaults={"fence": self.fence})
        with self.writing():
            pass

    @contextmanager
    def writing(self) -> Iterator[None]:
        """
        Open a transaction that commits only if nobody has led since.

        Raises `Deposed` otherwise.
        """
        from django.db import transaction

        from celery_platform.beat.site.models import Leadership

        with transaction.atomic():
            # The row stays locked until the commit: two leaders write one after the other.
            if not Leadership.objects.filter(pk=1, fence__lte=self.fence).update(fence=self.fence):
                raise Deposed("Another scheduler has taken over; this one stands by.")
            yield

    def claim(self, firings: Sequence[Held], plans: Sequence[Any], now: datetime) -> list[Held]:
        """
        Record *firings* and the next times in *plans*, all or nothing; return those that were not known before.
        """
        from celery_platform.beat.site.models import Firing

        with self.writing():
            rows = [self._row(held, now) for held in firings]
            Firing.objects.bulk_create(rows, ignore_conflicts=True, batch_size=_BATCH)
            known = set(
                Firing.objects.filter(call_id__in=[held.call_id for held in firings])
                .exclude(fence=self.fence, claimed_at=now)
                .values_list("call_id", flat=True)
            )
            write_plans(plans)
            self._show_last_runs(firings, now)
        return [held for held in firings if held.call_id not in known]

    def _row(self, held: Held, now: datetime) -> Any:
        from celery_platform.beat.site.models import TERMINAL_STATES, Firing

        held.claimed_at = now
        return Firing(
            entry=held.entry,
            nominal=held.nominal,
            kind=held.kind,
            state=held.state,
            call_id=held.call_id,
            claimed_at=now,
            ended_at=now if held.state in TERMINAL_STATES else None,
            note=held.note,
            fence=self.fence,
            lane=held.lane,
            width=held.width,
        )

    @staticmethod
    def _show_last_runs(firings: Sequence[Held], now: datetime) -> None:
        from django.db.models import F
        from django_celery_beat.models import PeriodicTask

        names = {held.entry for held in firings if held.state == "due"}
        if names:
            # For the admin of django-celery-beat; nothing of ours reads it.
            rows = PeriodicTask.objects.filter(name__in=names)
            rows.update(last_run_at=now, total_run_count=F("total_run_count") + 1)

    def move(self, firings: Iterable[Held], now: datetime, *, note: str | None = None) -> None:
        """
        Write the state that each of *firings* has in memory.
        """
        from celery_platform.beat.site.models import TERMINAL_STATES, Firing

        groups: dict[tuple[str, str], list[str]] = {}
        for held in firings:
            groups.setdefault((held.state, held.note if note is None else note), []).append(held.call_id)
        if not groups:
            return
        with self.writing():
            for (state, told), call_ids in groups.items():
                values: dict[str, Any] = {"state": state, "note": told}
                if state == "sent":
                    values["sent_at"] = now
                if state in TERMINAL_STATES:
                    values["ended_at"] = now
                rows = Firing.objects.filter(call_id__in=call_ids).exclude(state__in=TERMINAL_STATES)
                rows.update(**values)

    def sent(self, firings: Iterable[Held]) -> None:
        """
        Write down when each of *firings* was sent.
        """
        from django.db import connection

        adapted = connection.ops.adapt_datetimefield_value
        rows = [(adapted(held.sent_at), held.note, held.call_id) for held in firings]
        if rows:
            with self.writing(), connection.cursor() as cursor:
                cursor.executemany(_WRITE_SENT, rows)

    def note_failures(self, plan: Any) -> None:
        """
        Write how many runs of an entry have failed in a row, and whether it is paused.
        """
        with self.writing():
            plan.save(update_fields=["failures", "paused_at", "paused_until", "paused_reason"])

    def disable(self, row_id: int, reason: str) -> None:
        """
        Switch an entry off and keep *reason* for the operator.
        """
        from django_celery_beat.models import PeriodicTask

        from celery_platform.beat.site.models import Plan

        with self.writing():
            PeriodicTask.objects.filter(pk=row_id).update(enabled=False)
            Plan.objects.filter(pk=row_id).update(error=reason, next_at=None)

    @staticmethod
    def open_firings() -> list[Held]:
        """
        Return every firing that has not ended, oldest first.
        """
        from celery_platform.beat.site.models import OPEN_STATES, Firing

        return [_held(row) for row in Firing.objects.filter(state__in=OPEN_STATES).order_by("nominal")]

    @staticmethod
    def requested() -> list[Held]:
        """
        Return firings that an operator has asked for since.
        """
        from celery_platform.beat.site.models import Firing

        return [_held(row) for row in Firing.objects.filter(state="requested").order_by("nominal")[:_BATCH]]

    @staticmethod
    def states_at(pairs: Iterable[tuple[str, datetime]]) -> dict[tuple[str, datetime], str]:
        """
        Return the states of the firings of these entries at these nominal times, as far as there are any.
        """
        from celery_platform.beat.site.models import Firing

        ids = [call_id_of(entry, nominal) for entry, nominal in pairs]
        rows = Firing.objects.filter(call_id__in=ids).values_list("entry", "nominal", "state")
        return {(entry, nominal): state for entry, nominal, state in rows}

    @staticmethod
    def succeeded_between(entry: str, begin: datetime, end: datetime) -> bool:
        """
        Tell whether a firing of *entry* after *begin* and up to *end* has succeeded.
        """
        from celery_platform.beat.site.models import Firing

        return bool(Firing.objects.filter(entry=entry, nominal__gt=begin, nominal__lte=end, state="succeeded").exists())

    def prune(self, before: datetime) -> int:
        """
        Delete up to a thousand firings that ended before *before*; return how many went.
        """
        from celery_platform.beat.site.models import Firing

        old = list(Firing.objects.filter(ended_at__lt=before).values_list("pk", flat=True)[:1000])
        if old:
            with self.writing():
                Firing.objects.filter(pk__in=old).delete()
        return len(old)


def write_plans(plans: Sequence[Any]) -> None:
    """
    Write the progress of *plans* as they are in memory; the caller holds the transaction.
    """
    from django.db import connection

    # Django's own bulk_update spends milliseconds a row on building one large statement.
    adapted = connection.ops.adapt_datetimefield_value
    rows = [(adapted(p.next_at), adapted(p.alarm_at), p.runs, p.basis, p.periodic_id) for p in plans]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_WRITE_PLAN, rows)


_WRITE_SENT = (
    "UPDATE platform_beat_firing SET state = 'sent', sent_at = %s, note = %s WHERE call_id = %s AND state = 'due'"
)
_WRITE_PLAN = "UPDATE platform_beat_plan SET next_at = %s, alarm_at = %s, runs = %s, basis = %s WHERE periodic_id = %s"


def _held(row: Any) -> Held:
    return Held(
        entry=row.entry,
        nominal=row.nominal,
        state=row.state,
        call_id=row.call_id,
        kind=row.kind,
        note=row.note,
        claimed_at=row.claimed_at,
        sent_at=row.sent_at,
        lane=row.lane,
        width=row.width,
    )
