"""
Write a deployment's schedule as one list of values: `cron`, `every`, `solar`, `once`.

Importing this costs nothing but the standard library; Django is loaded by `celery -A platform beat` alone.
"""

from __future__ import annotations

from celery_platform.beat.entries import Entry, cron, every, once, solar

__all__ = ["Entry", "cron", "every", "once", "solar"]
