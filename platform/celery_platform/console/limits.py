"""
Limits and the idempotency keys that are held: change the one, free the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_platform.console.page import Deed, Effect, Fields, Page, Refusal
from celery_platform.guards.listings import limit_change, limits_of, lock_named, lock_of

if TYPE_CHECKING:
    from celery_platform.celery_app import Platform

__all__ = ["LimitsPage"]

_LOCKS = 200


class LimitsPage(Page):
    """`/platform/limits`."""

    template, title, tab = "limits.html", "Limits and locks", "limits"

    def look(self, *path: str) -> dict[str, Any]:
        """
        Return the limits in use with every live change, and the first keys that are held.
        """
        del path
        state = self.desk.platform.guards
        locks = [lock_of(entry) for entry in state.locks(_LOCKS)]
        return {
            "limits": sorted(limits_of(state), key=lambda row: (row["name"], row["key"] or "")),
            "locks": sorted(locks, key=lambda lock: -(lock["age"] or 0)),
            "more": len(locks) == _LOCKS,
        }


def _set(platform: Platform, target: str, fields: Fields) -> Effect:
    change = limit_change(
        limit=fields.number("limit"),
        per=fields.seconds("per"),
        burst=fields.number("burst"),
        slots=fields.number("slots"),
        dry_run=True if fields.ticked("dry_run") else None,
    )
    if not change:
        raise Refusal("Nothing to set. Give at least one of limit, per, burst, slots, dry_run.")
    before = platform.guards.changed_limits().get(target)
    platform.guards.change_limit(target, change)
    return Effect(f"{target}: {change}, from the next call on.", before, change)


def _reset(platform: Platform, target: str, fields: Fields) -> Effect:
    del fields
    before = platform.guards.changed_limits().get(target)
    platform.guards.change_limit(target, None)
    return Effect(f"{target} is as the code says.", before)


def _release(platform: Platform, target: str, fields: Fields) -> Effect:
    del fields
    entry = lock_named(platform.guards, target)
    task, _, key = entry.name.partition("|")
    released = platform.guards.release(task, key)
    told = f"{entry.name} is free." if released else f"{entry.name} was not held any more."
    return Effect(told, lock_of(entry), {"released": released})


LimitsPage.deeds = {
    "set": Deed(_set, "limit_name"),
    "reset": Deed(_reset, "limit_name"),
    "release": Deed(_release, "lock"),
}
