"""
Describe breakers, limits and idempotency keys for operators, the same on the command line and in the console.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery_platform.clock import moment
from celery_platform.errors import PlatformError

if TYPE_CHECKING:
    from celery_platform.stores.guard_state import Entry
    from celery_platform.stores.redis_guards import RedisGuards

__all__ = ["breakers_of", "holder_of", "is_orphan", "limit_change", "limits_of", "lock_named", "lock_of"]

_MOST = 10_000


def breakers_of(state: RedisGuards) -> list[dict[str, Any]]:
    """
    Return the breakers that calls have asked lately; times are ISO 8601.
    """
    return [_breaker(entry) for entry in state.breakers(_MOST)]


def _breaker(entry: Entry) -> dict[str, Any]:
    fields = entry.fields
    name, _, key = entry.name.partition("|")
    state = fields.get("state", "closed")
    until = moment(fields.get("until"))
    return {
        "name": name,
        "key": key or None,
        "state": "half_open" if state == "open" and float(fields.get("until", 0)) < time.time() * 1000 else state,
        "since": moment(fields.get("since")),
        "until": until if state != "closed" else None,
        "failures": int(fields.get("failures", 0)) if fields.get("w") else 0,
        "calls": int(fields.get("calls", 0)) if fields.get("w") else 0,
        "parked": int(fields.get("pn", 0)),
        "reason": fields.get("reason", "") if state not in {"closed", "open", "half_open"} else "",
    }


def limits_of(state: RedisGuards) -> list[dict[str, Any]]:
    """
    Return the limits that hold something now, and every live change.
    """
    changes = state.changed_limits()
    rows: list[dict[str, Any]] = []
    for entry in state.limits(_MOST):
        name, _, key = entry.name.partition("|")
        used = entry.fields.get("members")
        rows.append({"name": name, "key": key or None, "used": None if used is None else int(used), "change": None})
    rows = [{**row, "change": changes.pop(row["name"], None)} for row in rows]
    return rows + [{"name": name, "key": None, "used": None, "change": change} for name, change in changes.items()]


def limit_change(
    *,
    limit: int | None = None,
    per: float | None = None,
    burst: int | None = None,
    slots: int | None = None,
    dry_run: bool | None = None,
) -> dict[str, Any]:
    """
    Return the change of a limit as the store takes it, *per* in seconds; empty when nothing is changed.
    """
    given = {"limit": limit, "per": None if per is None else per * 1000, "burst": burst, "slots": slots}
    change = {word: value for word, value in {**given, "dry_run": dry_run}.items() if value is not None}
    if limit is not None and burst is None:
        change["burst"] = limit
    return change


def lock_named(state: RedisGuards, key: str) -> Entry:
    """
    Return the idempotency key *key*, named with its task (``task|key``) or without.

    Raises `PlatformError` when it is not held, or for several tasks.
    """
    found = [entry for entry in state.locks(100_000) if key in {entry.name, entry.name.partition("|")[2]}]
    if len(found) != 1:
        names = ", ".join(entry.name for entry in found[:5])
        several = f"{key!r} is held for several tasks ({names}). Name one of them with its task."
        raise PlatformError(
            several if found else f"{key!r} is not held. `celery -A platform locks list` shows what is."
        )
    return found[0]


def is_orphan(entry: Entry) -> bool:
    """
    Tell whether the holder of a key died while it ran.
    """
    # A waiting owner is no orphan: its call is in a queue, or lapses with the key.
    lease = float(entry.fields.get("lease", 0))
    return entry.fields["state"] == "running" and lease < time.time() * 1000


def holder_of(entry: Entry) -> str:
    """
    Return the call that holds a key.
    """
    return entry.fields.get("owner") or entry.fields.get("running", "")


def lock_of(entry: Entry) -> dict[str, Any]:
    """
    Return a held idempotency key; *age* and *expires_in* are seconds.
    """
    fields = entry.fields
    since = float(fields["since"]) / 1000 if "since" in fields else None
    task, _, key = entry.name.partition("|")
    return {
        "task": task,
        "key": key,
        "holder": holder_of(entry),
        "state": "orphaned" if is_orphan(entry) else fields["state"],
        "scope": fields.get("scope", ""),
        "fence": int(fields["fence"]) if "fence" in fields else None,
        "age": None if since is None else round(max(time.time() - since, 0.0), 1),
        "expires_in": entry.ttl,
    }
