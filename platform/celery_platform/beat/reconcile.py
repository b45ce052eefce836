"""
Bring the database in line with the schedule in code, without taking back what an operator has changed.

Each field is merged three ways: what code wrote last, what stands there now, what code says today. A field that an
operator has edited stays, and is shown as drift until both agree. Entries that left the code are disabled, not
deleted. Of two versions that run at once only the one first seen last writes.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from celery_platform.beat.rows import RELATED, Linker, basis, entry_of, fields_of, printed
from celery_platform.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from celery_platform.beat.entries import Entry

__all__ = ["Reconciled", "alive", "digest_of", "drift", "newest", "reconcile"]

logger = logging.getLogger("celery_platform.beat.reconcile")

# A version that has not been heard of for this long no longer runs anywhere.
_ALIVE = timedelta(seconds=90)
_BATCH = 500


@dataclass(slots=True)
class Reconciled:
    """The names of entries that were *created*, *updated*, or *disabled* because code no longer has them."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)


def digest_of(schedule: Sequence[Entry]) -> str:
    """
    Return a text that is the same for the same schedule, in whatever order it is written.
    """
    lines = sorted(json.dumps([entry.name, fields_of(entry)], sort_keys=True) for entry in schedule)
    return sha256("\n".join(lines).encode()).hexdigest()


def newest(digest: str, now: datetime) -> bool:
    """
    Tell whether the schedule of *digest* is the version to write, and sign it in.

    Another version that was first seen later and still runs is newer. Where none is, this one counts as newest from
    now on: a roll-back wins as soon as the version it replaces has gone.
    """
    from celery_platform.beat.site.models import Version

    mine, _ = Version.objects.get_or_create(digest=digest, defaults={"first_seen": now, "alive_at": now})
    rivals = Version.objects.exclude(digest=digest).filter(first_seen__gt=mine.first_seen)
    if rivals.filter(alive_at__gt=now - _ALIVE).exists():
        Version.objects.filter(digest=digest).update(alive_at=now)
        return False
    first_seen = now if rivals.exists() else mine.first_seen
    Version.objects.filter(digest=digest).update(first_seen=first_seen, alive_at=now)
    return True


def alive(digest: str, now: datetime) -> None:
    """
    Say that a beat with the version of *digest* still runs.
    """
    from celery_platform.beat.site.models import Version

    Version.objects.filter(digest=digest).update(alive_at=now)


def reconcile(schedule: Sequence[Entry], now: datetime) -> Reconciled:
    """
    Write *schedule* into the database, in one transaction; new entries are first due after *now*.
    """
    from django.db import transaction
    from django_celery_beat.models import PeriodicTask, PeriodicTasks

    done = Reconciled()
    with transaction.atomic():
        rows = {row.name: row for row in PeriodicTask.objects.select_related(*RELATED)}
        linker = Linker()
        done.created = _create([entry for entry in schedule if entry.name not in rows], linker, now)
        done.updated = [
            entry.name for entry in schedule if entry.name in rows and _merge(rows[entry.name], entry, linker)
        ]
        wanted = {entry.name for entry in schedule}
        for name, row in rows.items():
            plan = getattr(row, "plan", None)
            if plan is not None and plan.managed and not plan.removed and name not in wanted:
                _disable(row, plan)
                done.disabled.append(name)
        if done.created or done.updated or done.disabled:
            PeriodicTasks.update_changed()
    if done.created or done.updated or done.disabled:
        logger.info(
            "The schedule in code was written: %d created, %d updated, %d disabled.",
            len(done.created),
            len(done.updated),
            len(done.disabled),
        )
    return done


def drift(row: Any) -> dict[str, tuple[Any, Any]]:
    """
    Return, for each field that an operator has changed, what code says and what stands in the database.
    """
    plan = getattr(row, "plan", None)
    if plan is None or not plan.managed or plan.removed:
        return {}
    written = json.loads(plan.written or "{}")
    return {
        name: (written[name], now) for name, now in _current(row).items() if name in written and written[name] != now
    }


def _current(row: Any) -> dict[str, Any]:
    try:
        return fields_of(entry_of(row))
    except ScheduleError as error:
        return {"recurrence": f"unusable: {error}"}


def _create(entries: Sequence[Entry], linker: Linker, now: datetime) -> list[str]:
    from django_celery_beat.models import PeriodicTask

    from celery_platform.beat.site.models import Plan

    linker.make(entry.recurrence for entry in entries)
    said = [fields_of(entry) for entry in entries]
    rows = []
    for entry, fields in zip(entries, said, strict=True):
        row = PeriodicTask(name=entry.name)
        for name, value in fields.items():
            _assign(row, name, value, entry, linker)
        rows.append(row)
    # The statement returns the keys of the rows, in their order.
    PeriodicTask.objects.bulk_create(rows, batch_size=_BATCH)
    plans = []
    for row, entry, fields in zip(rows, entries, said, strict=True):
        plan = Plan(periodic_id=row.pk, managed=True, written=json.dumps(fields, sort_keys=True))
        _assign_plan(plan, row, fields, entry, set(fields))
        plan.basis, plan.next_at = basis(entry), entry.after(now)
        plans.append(plan)
    Plan.objects.bulk_create(plans, batch_size=_BATCH)
    return [entry.name for entry in entries]


def _merge(row: Any, entry: Entry, linker: Linker) -> bool:
    from celery_platform.beat.site.models import Plan

    plan = getattr(row, "plan", None) or Plan(periodic=row)
    written: Mapping[str, Any] = json.loads(plan.written or "{}") if plan.managed else {}
    said = fields_of(entry)
    if plan.managed and not plan.removed and written == said:
        return False
    current = _current(row)
    if plan.removed:
        # It was the code that disabled it, not an operator.
        current["enabled"] = written.get("enabled", True)
        row.enabled = current["enabled"]
    taken = {name for name, value in said.items() if written.get(name, value) == current.get(name, value)}
    for name in taken:
        _assign(row, name, said[name], entry, linker)
    row.no_changes = True
    row.save()
    plan.managed, plan.removed, plan.written = True, False, json.dumps(said, sort_keys=True)
    _assign_plan(plan, row, said, entry, taken)
    plan.save()
    return True


def _assign(row: Any, name: str, value: Any, entry: Entry, linker: Linker) -> None:
    if name == "recurrence":
        linker.link(row, entry.recurrence)
    elif name != "rules":
        setattr(row, name, value)


def _assign_plan(plan: Any, row: Any, said: Mapping[str, Any], entry: Entry, taken: set[str]) -> None:
    if "rules" in taken:
        plan.rules = said["rules"]
    if "recurrence" in taken:
        plan.recurrence = json.dumps(entry.recurrence.to_json())
        plan.row_print = printed(row)
    plan.error = ""


def _disable(row: Any, plan: Any) -> None:
    row.enabled, row.no_changes = False, True
    row.save()
    plan.removed = True
    plan.save()
