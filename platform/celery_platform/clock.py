"""
Give time as a dependency: `now()` for people and messages, `monotonic()` for durations; and read and write its words.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["SYSTEM", "Clock", "FrozenClock", "SystemClock", "duration_of", "moment"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Clock(Protocol):
    """Where the platform reads time from."""

    def now(self) -> float:
        """
        Return the Unix time in seconds.
        """

    def monotonic(self) -> float:
        """
        Return seconds since some fixed point; it never goes back.
        """


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """
        Return the Unix time in seconds.
        """
        return time.time()

    def monotonic(self) -> float:
        """
        Return seconds since some fixed point; it never goes back.
        """
        return time.monotonic()


class FrozenClock:
    """A clock for tests: it stands still until `advance` is called."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> float:
        """
        Return the frozen Unix time in seconds.
        """
        return self._now

    def monotonic(self) -> float:
        """
        Return the frozen monotonic time in seconds.
        """
        return self._monotonic

    def advance(self, duration: float) -> None:
        """
        Move both times forward by *duration* seconds.
        """
        self._now += duration
        self._monotonic += duration


SYSTEM = SystemClock()


def duration_of(text: str) -> float:
    """
    Return the seconds that *text* means: a number, alone or with s, m, h or d.

    Raises `ValueError` for anything else, and for nothing at all.
    """
    match = _DURATION.fullmatch(text)
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"expected a duration like 90, 30s, 10m, 2h or 1d, got {text!r}.")
    return float(match[1]) * _UNITS[match[2]]


def moment(milliseconds: str | float | None) -> str | None:
    """
    Return a Unix time in milliseconds as ISO 8601 (UTC), or nothing for nothing.
    """
    if not milliseconds or float(milliseconds) <= 0:
        return None
    return datetime.fromtimestamp(float(milliseconds) / 1000, UTC).isoformat(timespec="seconds")
