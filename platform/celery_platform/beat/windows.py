"""
Say when an entry may run: execution windows, blackouts and holidays, read from short texts.

A span is ``[days] [HH:MM-HH:MM]`` or a date ``2026-12-24``, a range of dates ``2026-12-24..2027-01-02`` or a day of
every year ``12-25``: ``"mon-fri 08:00-18:00"``, ``"sat,sun"``, ``"22:00-06:00"``. The end is not part of it; a span
over midnight belongs to the day it begins on. Times are on the clocks of the entry's zone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from celery_platform.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from zoneinfo import ZoneInfo

__all__ = ["Calendar", "Span"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCKS = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_DATES = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.\.(\d{4}-\d{2}-\d{2}))?")
_YEARLY = re.compile(r"(\d{2})-(\d{2})")
_ALL_DAYS = frozenset(range(7))
_MIDNIGHT = time()
# How far ahead the next open moment is looked for.
_HORIZON = 366 * 2


@dataclass(frozen=True, slots=True)
class Span:
    """A recurring stretch of time on a wall clock; `parse` reads its text."""

    weekdays: frozenset[int] = _ALL_DAYS
    begin: time = _MIDNIGHT
    end: time = _MIDNIGHT
    dates: tuple[date, date] | None = None
    yearly: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str | date) -> Span:
        """
        Return the span that *text* describes.

        Raises `ScheduleError` with the accepted forms.
        """
        given = text.isoformat() if isinstance(text, date) and not isinstance(text, datetime) else text
        try:
            return cls._read(str(given).strip().lower())
        except (ValueError, IndexError):
            raise ScheduleError(
                f"The span {text!r} cannot be read. Write 'mon-fri 08:00-18:00', 'sat,sun', '22:00-06:00', "
                "'2026-12-24', '2026-12-24..2027-01-02', or '12-25' for every year."
            ) from None

    @classmethod
    def _read(cls, text: str) -> Span:
        if match := _DATES.fullmatch(text):
            first = date.fromisoformat(match[1])
            last = date.fromisoformat(match[2]) if match[2] else first
            if last < first:
                raise ValueError(text)
            return cls(dates=(first, last))
        if match := _YEARLY.fullmatch(text):
            date(2024, int(match[1]), int(match[2]))
            return cls(yearly=(int(match[1]), int(match[2])))
        words = text.split()
        clocks = _CLOCKS.fullmatch(words[-1])
        if clocks:
            words.pop()
        if len(words) > 1:
            raise ValueError(text)
        weekdays = _weekdays(words[0]) if words else _ALL_DAYS
        if not clocks:
            return cls(weekdays)
        hour, minute, end_hour, end_minute = map(int, clocks.groups())
        end = _MIDNIGHT if (end_hour, end_minute) == (24, 0) else time(end_hour, end_minute)
        return cls(weekdays, time(hour, minute), end)

    def holds(self, wall: datetime) -> bool:
        """
        Tell whether the wall-clock time *wall* lies inside.
        """
        clock = wall.time().replace(tzinfo=None)
        if self.begin < self.end or self.end == _MIDNIGHT:
            inside = self.begin <= clock and (clock < self.end or self.end == _MIDNIGHT)
            return inside and self._on(wall.date())
        if clock >= self.begin:
            return self._on(wall.date())
        return clock < self.end and self._on(wall.date() - timedelta(days=1))

    def _on(self, day: date) -> bool:
        if self.dates:
            return self.dates[0] <= day <= self.dates[1]
        if self.yearly:
            return (day.month, day.day) == self.yearly
        return day.weekday() in self.weekdays


def _weekdays(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low, high = _DAYS.index(first), _DAYS.index(last if dash else first)
        days.update(range(low, high + 1) if low <= high else [*range(low, 7), *range(high + 1)])
    return frozenset(days)


@dataclass(frozen=True, slots=True)
class Calendar:
    """When entries of one zone may run: inside a window (if there are any), outside of every blackout and holiday."""

    zone: ZoneInfo
    windows: tuple[Span, ...] = ()
    closed: tuple[Span, ...] = ()

    @classmethod
    def of(cls, zone: ZoneInfo, windows: Iterable[str], blackouts: Iterable[str], holidays: Iterable[str]) -> Calendar:
        """
        Return the calendar that these texts describe; raises `ScheduleError` for one that cannot be read.
        """
        return cls(zone, tuple(map(Span.parse, windows)), tuple(map(Span.parse, (*blackouts, *holidays))))

    @property
    def always_open(self) -> bool:
        """
        Tell whether nothing is ever refused.
        """
        return not self.windows and not self.closed

    def admits(self, moment: datetime) -> bool:
        """
        Tell whether an entry may run at *moment*.
        """
        wall = moment.astimezone(self.zone)
        return (not self.windows or any(span.holds(wall) for span in self.windows)) and not any(
            span.holds(wall) for span in self.closed
        )

    def opens(self, moment: datetime) -> datetime | None:
        """
        Return the first moment at or after *moment* (UTC) that is admitted, or nothing within two years.
        """
        if self.admits(moment):
            return moment
        clocks = sorted({_MIDNIGHT, *(s.begin for s in self.windows), *(s.end for s in self.closed)})
        day = moment.astimezone(self.zone).date()
        for offset in range(_HORIZON):
            for clock in clocks:
                opening = datetime.combine(day + timedelta(days=offset), clock, self.zone).astimezone(UTC)
                if opening > moment and self.admits(opening):
                    return opening
        return None
