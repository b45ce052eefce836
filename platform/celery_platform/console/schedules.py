"""
The schedules: what comes next, what was fired, and running or pausing an entry.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery_platform.console.page import Deed, Effect, Fields, Page
from celery_platform.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_platform.celery_app import Platform

__all__ = ["SchedulesPage"]

_FIRINGS = 50


class SchedulesPage(Page):
    """`/platform/schedules`."""

    template, title, tab = "schedules.html", "Schedules", "schedules"
    refresh = 5

    def look(self, *path: str) -> dict[str, Any]:
        """
        Return every entry, those of the code included that no beat has written yet, and the newest firings.
        """
        del path
        platform = self.desk.platform
        with _tables(platform):
            from celery_platform.beat.code import schedule_of
            from celery_platform.beat.history import firings, listing

            entries = [entry.to_json() for entry in listing(schedule_of(platform.app))]
            return {"entries": entries, "firings": firings(None, _FIRINGS)}


@contextmanager
def _tables(platform: Platform) -> Iterator[None]:
    """
    Have the tables of the schedules at hand, and give the thread's connection back when it is broken or old.
    """
    from celery_platform.beat.site.configuration import configure, prepare

    configure(platform.settings)
    from django.db import DatabaseError, close_old_connections

    try:
        prepare(platform.settings)
        yield
    except DatabaseError as error:
        raise StoreError(
            f"The database of the schedules did not answer: {error}. Is PLATFORM_DATABASE_URL right?"
        ) from error
    finally:
        close_old_connections()


def _state_of(name: str) -> dict[str, Any]:
    from celery_platform.beat.history import listing

    found = next((entry for entry in listing() if entry.name == name), None)
    return {"paused": bool(found and found.paused), "reason": found.paused_reason if found else ""}


def _run(platform: Platform, target: str, fields: Fields) -> Effect:
    del fields
    with _tables(platform):
        from celery_platform.beat.history import run_now

        asked = run_now(target)
    return Effect(f"{target} was asked for: call {asked['call_id']}.", None, asked)


def _pause(platform: Platform, target: str, fields: Fields) -> Effect:
    seconds, reason = fields.seconds("for"), fields.text("reason")
    until = None if seconds is None else datetime.fromtimestamp(time.time() + seconds, UTC)
    with _tables(platform):
        from celery_platform.beat.history import pause

        before = _state_of(target)
        pause(target, reason, until)
    return Effect(f"{target} is paused; its times pass unused.", before, {"paused": True, "until": until})


def _resume(platform: Platform, target: str, fields: Fields) -> Effect:
    del fields
    with _tables(platform):
        from celery_platform.beat.history import resume

        before = _state_of(target)
        was = resume(target)
    return Effect(f"{target} goes on." if was else f"{target} was not paused.", before, {"paused": False})


SchedulesPage.deeds = {
    "run": Deed(_run, "entry"),
    "pause": Deed(_pause, "entry"),
    "resume": Deed(_resume, "entry"),
}
