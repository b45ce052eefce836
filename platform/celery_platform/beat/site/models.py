"""
Keep beside each row of django-celery-beat what it cannot hold, and one row for every firing.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django_celery_beat.models import PeriodicTask

__all__ = ["OPEN_STATES", "RUNNING_STATES", "TERMINAL_STATES", "Firing", "Leadership", "Plan", "Version"]

#: Claimed but not yet with the broker; with the broker or running.
RUNNING_STATES = ("due", "sent")
#: Asked for by an operator; held for an earlier run; for an upstream entry; for its turn in a backfill.
OPEN_STATES = (*RUNNING_STATES, "requested", "buffered", "waiting", "queued")
TERMINAL_STATES = ("succeeded", "failed", "discarded", "cancelled", "skipped", "missed", "lost")


class Plan(models.Model):
    """The rules and the progress of one entry."""

    periodic = models.OneToOneField(PeriodicTask, models.CASCADE, primary_key=True, related_name="plan")
    rules = models.TextField(default="{}", blank=True, help_text="Overlap, misfire, windows and so on, as JSON.")
    recurrence = models.TextField(default="", blank=True, editable=False)
    row_print = models.TextField(default="", blank=True, editable=False)
    basis = models.TextField(default="", blank=True, editable=False)
    next_at = models.DateTimeField(null=True, blank=True, editable=False)
    alarm_at = models.DateTimeField(null=True, blank=True, editable=False)
    runs = models.PositiveIntegerField(default=0, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False)
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_until = models.DateTimeField(null=True, blank=True)
    paused_reason = models.TextField(default="", blank=True)
    managed = models.BooleanField(default=False, editable=False)
    removed = models.BooleanField(default=False, editable=False)
    written = models.TextField(default="{}", blank=True, editable=False)
    error = models.TextField(default="", blank=True, editable=False)

    def __str__(self) -> str:
        return str(self.periodic.name)


class Firing(models.Model):
    """One nominal time of one entry, from its claim to the outcome of its run."""

    entry = models.CharField(max_length=200)
    nominal = models.DateTimeField()
    kind = models.CharField(max_length=10, default="schedule")
    state = models.CharField(max_length=12)
    call_id = models.CharField(max_length=36)
    claimed_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    note = models.TextField(default="", blank=True)
    fence = models.BigIntegerField(default=0)
    lane = models.CharField(max_length=36, default="", blank=True)
    width = models.PositiveIntegerField(default=0)

    class Meta:
        """What makes a firing unique, and what is looked up often."""

        constraints: ClassVar = [models.UniqueConstraint(fields=["entry", "nominal"], name="platform_beat_one_firing")]
        indexes: ClassVar = [
            models.Index(fields=["state"], name="platform_beat_state"),
            models.Index(fields=["call_id"], name="platform_beat_call"),
            models.Index(fields=["ended_at"], name="platform_beat_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.entry} at {self.nominal.isoformat()}"

    @property
    def lag(self) -> float | None:
        """
        How many seconds after its nominal time the firing was sent.
        """
        return None if self.sent_at is None else float((self.sent_at - self.nominal).total_seconds())


class Leadership(models.Model):
    """The highest fence that has written: whoever comes with a lower one has been deposed."""

    fence = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"fence {self.fence}"


class Version(models.Model):
    """A schedule as code that some beat has brought along."""

    digest = models.CharField(max_length=64, primary_key=True)
    first_seen = models.DateTimeField()
    alive_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.digest)
