"""
Answer operators: what is scheduled, what comes next, what happened; and take their orders.
"""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery_platform.beat.ledger import call_id_of
from celery_platform.beat.reconcile import drift
from celery_platform.beat.rows import RELATED, entry_of
from celery_platform.errors import PlatformError, ScheduleError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celery_platform.beat.entries import Entry

__all__ = [
    "Listing",
    "backfill",
    "coming",
    "entry_named",
    "firings",
    "is_paused",
    "listing",
    "pause",
    "resume",
    "run_now",
]

_LONGEST_BACKFILL = 10_000


@dataclass(frozen=True, slots=True)
class Listing:
    """One entry for operators; times are ISO 8601."""

    name: str
    task: str
    schedule: str
    next: str | None
    last: str | None
    last_state: str | None
    overlap: str
    paused: bool
    paused_reason: str
    paused_until: str | None
    enabled: bool
    managed: bool
    drift: dict[str, tuple[Any, Any]]
    error: str

    def to_json(self) -> dict[str, Any]:
        """
        Return it as plain values.
        """
        return asdict(self)


def _now() -> datetime:
    return datetime.now(UTC)


def listing(code: Sequence[Entry] = ()) -> list[Listing]:
    """
    Return every entry in the tables, and those of *code* that no beat has written there yet, by name.
    """
    from django_celery_beat.models import PeriodicTask

    rows = PeriodicTask.objects.select_related(*RELATED).order_by("name")
    last = _last_firings()
    known = [_listed(row, last.get(row.name)) for row in rows]
    names = {entry.name for entry in known}
    return sorted([*known, *(_fresh(entry) for entry in code if entry.name not in names)], key=lambda e: e.name)


def _fresh(entry: Entry) -> Listing:
    upcoming = entry.after(_now()) if entry.enabled else None
    return Listing(
        name=entry.name,
        task=entry.task,
        schedule=entry.recurrence.described(),
        next=upcoming.isoformat() if upcoming else None,
        last=None,
        last_state=None,
        overlap=entry.rules.overlap,
        paused=False,
        paused_reason="",
        paused_until=None,
        enabled=entry.enabled,
        managed=True,
        drift={},
        error="",
    )


def _last_firings() -> dict[str, Any]:
    from django.db.models import Max

    from celery_platform.beat.site.models import Firing

    fired = Firing.objects.exclude(sent_at=None)
    newest = fired.values("entry").annotate(newest=Max("id")).values_list("newest", flat=True)
    return {row.entry: row for row in Firing.objects.filter(pk__in=list(newest))}


def _listed(row: Any, last: Any) -> Listing:
    plan, now = getattr(row, "plan", None), _now()
    words: dict[str, Any] = {"schedule": "", "overlap": "skip", "next": None, "error": plan.error if plan else ""}
    try:
        entry = entry_of(row)
        words |= {"schedule": entry.recurrence.described(), "overlap": entry.rules.overlap}
        upcoming = (plan.next_at if plan and plan.next_at else entry.after(now)) if row.enabled else None
        words["next"] = upcoming.isoformat() if upcoming else None
    except ScheduleError as error:
        words["error"] = str(error)
    paused = is_paused(plan, now)
    until = plan.paused_until.isoformat() if plan and paused and plan.paused_until else None
    return Listing(
        name=row.name,
        task=row.task,
        last=last.nominal.isoformat() if last else None,
        last_state=last.state if last else None,
        paused=paused,
        paused_reason=plan.paused_reason if plan and paused else "",
        paused_until=until,
        enabled=row.enabled,
        managed=bool(plan and plan.managed),
        drift=drift(row),
        **words,
    )


def is_paused(plan: Any, now: datetime | None = None) -> bool:
    """
    Tell whether the entry of *plan* is paused at *now*, or at present.
    """
    return bool(plan and plan.paused_at and (plan.paused_until is None or plan.paused_until > (now or _now())))


def _row_named(name: str) -> Any:
    from django_celery_beat.models import PeriodicTask

    row = PeriodicTask.objects.select_related(*RELATED).filter(name=name).first()
    if row is None:
        known = list(PeriodicTask.objects.values_list("name", flat=True))
        raise PlatformError(
            f"There is no schedule entry {name!r}.{did_you_mean(name, known)} "
            "List them with `celery -A platform schedule list`; entries of code appear when a beat has started."
        )
    return row


def entry_named(name: str) -> Entry:
    """
    Return the entry *name* of the tables.

    Raises `PlatformError` for an unknown name, `ScheduleError` for a row that cannot work.
    """
    return entry_of(_row_named(name))


def coming(entry: Entry, count: int, after: datetime | None = None) -> Iterator[datetime]:
    """
    Yield the next *count* nominal times of *entry* after *after*, or after now.
    """
    moment = after or _now()
    for _ in range(count):
        found = entry.after(moment)
        if found is None:
            return
        yield found
        moment = found


def firings(entry: str | None, limit: int, state: str | None = None) -> list[dict[str, Any]]:
    """
    Return the newest firings, of one entry or of all, each with nominal and actual time, lag, call and outcome.
    """
    from celery_platform.beat.site.models import Firing

    rows = Firing.objects.order_by("-nominal", "-id")
    if entry is not None:
        rows = rows.filter(entry=entry)
    if state is not None:
        rows = rows.filter(state=state)
    return [
        {
            "entry": row.entry,
            "nominal": row.nominal.isoformat(),
            "actual": row.sent_at.isoformat() if row.sent_at else None,
            "lag": row.lag,
            "state": row.state,
            "ended": row.ended_at.isoformat() if row.ended_at else None,
            "kind": row.kind,
            "call_id": row.call_id,
            "note": row.note,
        }
        for row in rows[:limit]
    ]


def pause(name: str, reason: str, until: datetime | None = None) -> None:
    """
    Pause the entry *name* until it is resumed, or until *until*; its times pass unused.
    """
    _set_pause(name, _now(), reason, until)


def resume(name: str) -> bool:
    """
    Let a paused entry go on with its next time; answer whether it was paused.
    """
    was = is_paused(getattr(_row_named(name), "plan", None), _now())
    _set_pause(name, None, "", None)
    return was


def _set_pause(name: str, at: datetime | None, reason: str, until: datetime | None) -> None:
    from django.db import transaction
    from django_celery_beat.models import PeriodicTasks

    from celery_platform.beat.site.models import Plan

    row = _row_named(name)
    with transaction.atomic():
        plan, _ = Plan.objects.get_or_create(periodic=row)
        changes: dict[str, Any] = {"paused_at": at, "paused_reason": reason, "paused_until": until, "failures": 0}
        if at is None and is_paused(plan, _now()):
            # What fell into the pause is not made up for: the next time is sought from now on.
            changes["next_at"] = None
        Plan.objects.filter(pk=plan.pk).update(**changes)
        PeriodicTasks.update_changed()


def run_now(name: str) -> dict[str, Any]:
    """
    Ask the leading scheduler for one run of *name* now, whatever its overlap policy; return the firing.
    """
    entry, now = entry_named(name), _now()
    _require_enabled(name)
    _request(entry.name, [now], "manual")
    return {"entry": name, "nominal": now.isoformat(), "call_id": call_id_of(name, now)}


def backfill(name: str, begin: datetime, end: datetime, *, width: int = 1) -> list[datetime]:
    """
    Ask for a run of *name* at each of its nominal times from *begin* to *end*, *width* at a time.

    Times that were fired already stay as they are; return those that were asked for now. Raises `PlatformError` for a
    range without times, or with more than ten thousand.
    """
    entry = entry_named(name)
    _require_enabled(name)
    nominals: list[datetime] = []
    moment = begin.astimezone(UTC) - timedelta(microseconds=1)
    while (found := entry.after(moment)) is not None and found <= end:
        nominals.append(found)
        moment = found
        if len(nominals) > _LONGEST_BACKFILL:
            raise PlatformError(
                f"{name} is due more than {_LONGEST_BACKFILL} times in that range. Backfill it in smaller ranges."
            )
    if not nominals:
        raise PlatformError(f"{name} is never due from {begin.isoformat()} to {end.isoformat()}. Widen the range.")
    return _request(name, nominals, "backfill", width)


def _require_enabled(name: str) -> None:
    if not _row_named(name).enabled:
        raise PlatformError(f"{name} is disabled. Enable it in the admin, or put it back into the schedule in code.")


def _request(name: str, nominals: list[datetime], kind: str, width: int = 0) -> list[datetime]:
    from django.db import transaction

    from celery_platform.beat.site.models import Firing

    now, lane = _now(), uuid.uuid4().hex if kind == "backfill" else ""
    with transaction.atomic():
        ids = {call_id_of(name, nominal): nominal for nominal in nominals}
        known = set(Firing.objects.filter(call_id__in=list(ids)).values_list("call_id", flat=True))
        rows = [
            Firing(
                entry=name,
                nominal=nominal,
                kind=kind,
                state="requested",
                call_id=call_id,
                claimed_at=now,
                lane=lane,
                width=width,
            )
            for call_id, nominal in ids.items()
            if call_id not in known
        ]
        Firing.objects.bulk_create(rows, ignore_conflicts=True)
    return [row.nominal for row in rows]
