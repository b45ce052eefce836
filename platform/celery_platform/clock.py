"""
Give time as a dependency: `now()` for people and messages, `monotonic()` for durations.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM", "Clock", "FrozenClock", "SystemClock"]


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
