"""
Name every way a call can end, and the verdicts a body may speak.

A body ends by returning, by raising, or by one of four verdicts, raised or returned:
`Snooze`, `RetryAfter`, `Discard`, `Dead`. `execution.execute` turns each into one of five outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Buried",
    "Call",
    "Dead",
    "Deferred",
    "Discard",
    "Outcome",
    "RetryAfter",
    "Retrying",
    "Skipped",
    "Snooze",
    "Succeeded",
    "Verdict",
    "seconds",
]


def seconds(duration: float | timedelta) -> float:
    """
    Return *duration* in seconds; it is given in seconds or as a `timedelta`.
    """
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


@dataclass(frozen=True, slots=True)
class Call:
    """
    One requested run of a task.

    *failures* counts attempts that raised, *deferrals* waits that were no failure, *deliveries* how often the
    broker handed the message out. *enqueued_at*, *first_failed_at* and *deadline* are Unix times in
    seconds, *previous_delay* the seconds of the last retry wait, *scheduled_for* the nominal time (ISO 8601) of a
    scheduled run.
    """

    id: str
    task: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    queue: str | None = None
    failures: int = 0
    deferrals: int = 0
    deliveries: int = 1
    enqueued_at: float | None = None
    deadline: float | None = None
    scheduled_for: str | None = None
    first_failed_at: float | None = None
    previous_delay: float | None = None

    @property
    def attempt(self) -> int:
        """
        The number of this attempt, from 1; deferrals do not raise it.
        """
        return self.failures + 1


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The body returned *value*."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """The body did not run or its work was not wanted; *discarded* tells a `Discard` from a known result."""

    reason: str
    value: Any = None
    discarded: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """The call waits *delay* seconds for *reason*, without spending an attempt; *by* is the guard, or `snooze`."""

    delay: float
    reason: str
    by: str = "snooze"


@dataclass(frozen=True, slots=True)
class Retrying:
    """The attempt failed with *error*; another follows in *delay* seconds."""

    delay: float
    error: Exception


@dataclass(frozen=True, slots=True)
class Buried:
    """The call is over and unsuccessful; *reason* is the code its dead letter carries."""

    reason: str
    error: Exception


Outcome = Succeeded | Skipped | Deferred | Retrying | Buried


class Verdict(Exception):  # noqa: N818 - a verdict is an answer, not an error
    """What a body may raise or return to decide its own outcome."""


class Snooze(Verdict):
    """
    Run this call again in *delay* (seconds or `timedelta`), without spending an attempt.

    Zero is allowed: the call goes to the back of its queue.
    """

    def __init__(self, delay: float | timedelta, reason: str = "snoozed") -> None:
        if seconds(delay) < 0:
            raise ValueError(f"Snooze takes a delay of zero or more seconds, got {seconds(delay):g}.")
        super().__init__(delay, reason)
        self.delay = seconds(delay)
        self.reason = reason


class RetryAfter(Verdict):
    """
    Count this attempt as failed, and try again in *delay* (seconds or `timedelta`) instead of the policy's wait.

    The delay is clamped to the policy's floor and ceiling; budgets hold. Without a retry policy the call is buried.
    """

    def __init__(self, delay: float | timedelta, reason: str = "asked to retry later") -> None:
        if seconds(delay) < 0:
            raise ValueError(f"RetryAfter takes a delay of zero or more seconds, got {seconds(delay):g}.")
        super().__init__(delay, reason)
        self.delay = seconds(delay)
        self.reason = reason


class Discard(Verdict):
    """End this call: its work is no longer wanted. It is neither a success nor a dead letter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Dead(Verdict):
    """Bury this call at once, whatever attempts are left."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
