"""
Find the schedule in code.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from celery_platform.beat.entries import Entry
from celery_platform.errors import ScheduleError

__all__ = ["schedule_of"]


def schedule_of(app: Any) -> list[Entry]:
    """
    Return the schedule in code: the lists `schedule` of the packages in `PLATFORM_TASKS`.

    Raises `ScheduleError` for a list that holds anything but entries.
    """
    app.loader.import_default_modules()
    found: list[Entry] = []
    # The packages that are there: `beat/` may be missing.
    for name in app.conf.include:
        entries = getattr(import_module(name), "schedule", ())
        strange = [item for item in entries if not isinstance(item, Entry)]
        if strange:
            raise ScheduleError(
                f"{name}.schedule expected entries made by cron, every, solar or once, got {strange[0]!r}."
            )
        found += entries
    return found
