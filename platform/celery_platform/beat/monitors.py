"""
Tell Sentry's cron monitors when a firing begins and how it ends: one monitor an entry, one check-in a firing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from celery_platform import events
from celery_platform.beat.recurrence import Cron, Every
from celery_platform.events import FiringEnded, FiringSent

if TYPE_CHECKING:
    from celery_platform.beat.book import Book
    from celery_platform.beat.entries import Entry

__all__ = ["install", "monitor_of", "slug_of"]

_UNITS = {"day": 86_400, "hour": 3_600, "minute": 60}
_FIVE_FIELDS = 5
_SECONDS_A_MINUTE = 60
# Minutes: a fail-over takes seconds, a run may take an hour before it counts as stuck.
_MARGINS = {"checkin_margin": 2, "max_runtime": 60}


def install(dsn: str, book: Book) -> None:
    """
    Send check-ins to *dsn* for the firings of every entry in *book*, from now on.

    Nothing but names, times and outcomes is sent; a Sentry that is away costs check-ins and nothing else.
    """
    import sentry_sdk

    if not sentry_sdk.is_initialized():
        sentry_sdk.init(dsn=dsn, default_integrations=False, traces_sample_rate=0)
    events.subscribe(_Monitors(book))


class _Monitors:
    def __init__(self, book: Book) -> None:
        self._book = book

    def __call__(self, event: events.CallEvent) -> None:
        if not isinstance(event, (FiringSent, FiringEnded)):
            return
        from sentry_sdk.crons.api import capture_checkin

        live = self._book.by_name.get(event.entry)
        config: Any = monitor_of(live.entry) if live is not None else None
        if config is None:
            return
        status = "in_progress" if isinstance(event, FiringSent) else _status(event.state)
        if status is not None:
            # Sentry wants an id without dashes; the call's own makes both check-ins of a firing one.
            check_in = event.call_id.replace("-", "")
            capture_checkin(slug_of(event.entry), check_in_id=check_in, status=status, monitor_config=config)


def _status(state: str) -> str | None:
    if state == "succeeded":
        return "ok"
    return "error" if state in ("failed", "lost", "missed") else None


def slug_of(name: str) -> str:
    """
    Return the name of an entry as a monitor may be called.
    """
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:50] or "entry"


def monitor_of(entry: Entry) -> dict[str, Any] | None:
    """
    Return what Sentry must know to miss a firing, or nothing for times that it has no words for.

    It knows crontabs of five fields and whole minutes.
    """
    match entry.recurrence:
        case Cron(expression=expression) if len(expression.split()) == _FIVE_FIELDS:
            if "H" in expression.upper().replace("THU", ""):
                return None
            schedule: dict[str, Any] = {"type": "crontab", "value": expression}
            return {"schedule": schedule, "timezone": entry.recurrence.zone, **_MARGINS}
        case Every(interval=interval) if not interval.total_seconds() % _SECONDS_A_MINUTE:
            total = int(interval.total_seconds())
            unit = next(name for name, length in _UNITS.items() if total % length == 0)
            schedule = {"type": "interval", "value": total // _UNITS[unit], "unit": unit}
            return {"schedule": schedule, "timezone": "UTC", **_MARGINS}
        case _:
            return None
