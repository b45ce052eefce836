"""
Introduce our tables to Django.
"""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["SchedulesConfig"]


class SchedulesConfig(AppConfig):
    """The app `platform_beat`."""

    name = "celery_platform.beat.site"
    label = "platform_beat"
    verbose_name = "Schedules"
    default_auto_field = "django.db.models.BigAutoField"
