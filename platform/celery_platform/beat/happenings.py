"""
State facts about schedules, one frozen value each, through the same door as facts about calls.
"""

from __future__ import annotations

from dataclasses import dataclass

from celery_platform.events import CallEvent

__all__ = [
    "EntryDisabled",
    "EntryOverdue",
    "EntryPaused",
    "FiringEnded",
    "FiringSent",
    "FiringsMissed",
    "ScheduleEvent",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEvent(CallEvent):
    """Something happened to the schedule entry *entry*; without a call, *call_id* is empty."""

    call_id: str = ""
    task: str = ""
    entry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringSent(ScheduleEvent):
    """The broker has taken the firing of *nominal* (ISO 8601), *lag* seconds after it."""

    nominal: str
    lag: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringEnded(ScheduleEvent):
    """The firing of *nominal* ended in *state*, a word of `site.models.TERMINAL_STATES`."""

    nominal: str
    state: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringsMissed(ScheduleEvent):
    """*count* firings were given up, as the misfire policy says."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryDisabled(ScheduleEvent):
    """The row of the entry cannot work; *reason* says why and what to do."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPaused(ScheduleEvent):
    """The entry paused itself after failures; *reason* says so."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryOverdue(ScheduleEvent):
    """No firing of the entry had succeeded by *deadline* (ISO 8601)."""

    deadline: str
