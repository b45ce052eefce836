"""
Read cron expressions: five fields, or six with seconds first, and `H` for a place that depends on the entry's name.

A field holds ``*``, numbers, names (``mon``, ``jan``), ranges ``a-b``, steps ``/n`` and lists of these. ``H`` spreads
entries: ``H * * * *`` runs once an hour, each entry at a minute of its own; ``H(0-29)`` stays within bounds.
When both day fields are restricted a day that matches either is meant, as in cron.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from hashlib import sha256

from celery_platform.errors import ScheduleError, did_you_mean

__all__ = ["CronFields", "describe", "parse"]

# 29 February on a given weekday comes back after 40 years at the latest.
_HORIZON = timedelta(days=366 * 41)
_SECOND = timedelta(seconds=1)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_PART = re.compile(r"(?P<base>\*|H(?:\((?P<in>[^)]*)\))?|[^/]+)(?:/(?P<step>\d+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        word = text.strip().lower()
        if word in self.names:
            return self.names.index(word) + self.low
        if not word.isdecimal():
            raise ScheduleError(f"{self.name} expected a number or name, got {text!r}.{did_you_mean(word, self.names)}")
        value = int(word)
        if self.name == "day of week" and value == len(_WEEKDAYS):
            return 0
        if not self.low <= value <= self.high:
            raise ScheduleError(f"{self.name} expected {self.low} to {self.high}, got {value}.")
        return value

    def span(self, text: str) -> list[int]:
        first, dash, last = text.partition("-")
        if not dash:
            return [self.number(text)]
        low, high = self.number(first), self.number(last)
        if high == 0 and self.name == "day of week":
            high = len(_WEEKDAYS)
        if low <= high:
            return [value % len(_WEEKDAYS) if self.name == "day of week" else value for value in range(low, high + 1)]
        if self.name != "day of week":
            raise ScheduleError(f"{self.name}: the range {text!r} runs backwards. Write it as two, joined by a comma.")
        return [*range(low, len(_WEEKDAYS)), *range(high + 1)]

    def values(self, text: str, salt: str) -> tuple[int, ...]:
        found: set[int] = set()
        for part in text.split(","):
            found.update(self._part(part, salt))
        return tuple(sorted(found))

    def _part(self, part: str, salt: str) -> list[int]:
        match = _PART.fullmatch(part)
        if match is None:
            raise ScheduleError(
                f"{self.name} cannot be read: {part!r}. Write *, a number, a-b, or one of these with /n."
            )
        base, step = match["base"], int(match["step"] or 0)
        if match["step"] is not None and not 1 <= step <= self.high - self.low + 1:
            raise ScheduleError(f"{self.name}: a step of 1 to {self.high - self.low + 1} is expected, got {step}.")
        if base[0] in "hH" and base.lower() not in self.names:
            return self._hashed(match["in"], step, salt)
        if base == "*":
            return list(range(self.low, self.high + 1, step or 1))
        values = self.span(base)
        if step and "-" not in base:
            values = list(range(values[0], self.high + 1))
        return values[:: step or 1]

    def _hashed(self, bounds: str | None, step: int, salt: str) -> list[int]:
        # Day 29 and later do not come every month: a place that was not chosen must not be one of them.
        high = 28 if self.name == "day of month" and bounds is None else self.high
        room = self.span(bounds) if bounds else list(range(self.low, high + 1))
        digest = int.from_bytes(sha256(f"{salt}\0{self.name}".encode()).digest()[:8], "big")
        return room[digest % step :: step] if step else [room[digest % len(room)]]


_SECONDS = _Field("second", 0, 59)
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class CronFields:
    """
    The values each field admits, sorted; Sunday is 0.

    *either_day* tells that a day matches by day of month *or* by day of week; otherwise it must match by both.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    either_day: bool = False

    @property
    def every_hour(self) -> bool:
        """
        Tell whether no hour of the day was chosen, so that the entry counts time and not the clock on the wall.
        """
        return len(self.hours) == 24  # noqa: PLR2004 - a day

    def admits(self, day: date) -> bool:
        """
        Tell whether *day* is one of the days meant.
        """
        if day.month not in self.months:
            return False
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date or by_weekday if self.either_day else by_date and by_weekday

    def after(self, moment: datetime) -> datetime | None:
        """
        Return the first wall-clock time that is meant after *moment*; both are naive, of whole seconds.

        Returns None when there is none within forty years.
        """
        start = moment.replace(microsecond=0) + _SECOND
        day: date | None = start.date()
        if self.admits(start.date()) and (clock := self._clock(start.time())) is not None:
            return datetime.combine(start.date(), clock)
        day = self._day_after(start.date())
        first = time(self.hours[0], self.minutes[0], self.seconds[0])
        return None if day is None else datetime.combine(day, first)

    def _day_after(self, day: date) -> date | None:
        last = day + _HORIZON if day.year < date.max.year - 42 else date.max - timedelta(days=40)
        day += timedelta(days=1)
        while day <= last:
            if day.month not in self.months:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            elif self.admits(day):
                return day
            else:
                day += timedelta(days=1)
        return None

    def _clock(self, floor: time) -> time | None:
        if floor.hour in self.hours:
            if floor.minute in self.minutes and (at := bisect_left(self.seconds, floor.second)) < len(self.seconds):
                return time(floor.hour, floor.minute, self.seconds[at])
            if (at := bisect_left(self.minutes, floor.minute + 1)) < len(self.minutes):
                return time(floor.hour, self.minutes[at], self.seconds[0])
        if (at := bisect_left(self.hours, floor.hour + 1)) < len(self.hours):
            return time(self.hours[at], self.minutes[0], self.seconds[0])
        return None


@lru_cache(maxsize=16_384)
def parse(expression: str, salt: str = "", *, either_day: bool | None = None) -> CronFields:
    """
    Return the fields of *expression*; *salt* (the entry's name) decides where ``H`` lands.

    *either_day* overrides how two restricted day fields combine. Raises `ScheduleError` that names the field, what was
    expected and what was given, also for a date that never comes.
    """
    text = _MACROS.get(expression.strip().lower(), expression)
    parts = text.split()
    if text.startswith("@") or len(parts) not in (len(_FIELDS), len(_FIELDS) + 1):
        raise ScheduleError(
            f"cron({expression!r}): expected five fields (minute hour day-of-month month day-of-week), six with "
            f"seconds first, or one of {', '.join(_MACROS)}; got {len(parts)}.{did_you_mean(text, _MACROS)}"
        )
    try:
        seconds = _SECONDS.values(parts.pop(0), salt) if len(parts) > len(_FIELDS) else (0,)
        minutes, hours, days, months, weekdays = (f.values(p, salt) for f, p in zip(_FIELDS, parts, strict=True))
    except ScheduleError as error:
        raise ScheduleError(f"cron({expression!r}): {error}") from None
    either = not parts[2].startswith("*") and not parts[4].startswith("*") if either_day is None else either_day
    fields = CronFields(seconds, minutes, hours, days, months, weekdays, either)
    if fields.after(datetime(2024, 1, 1)) is None:  # noqa: DTZ001 - a wall clock has no zone
        raise ScheduleError(f"cron({expression!r}) never comes: no month it names has such a day. Mend day or month.")
    return fields


def describe(expression: str, salt: str = "") -> str:
    """
    Say *expression* in words, as far as the library for it is installed; else return it as it stands.
    """
    try:
        from cron_descriptor import Options, get_description
    except ImportError:
        return expression
    fields, options = parse(expression, salt), Options()
    options.use_24hour_time_format = True
    shown = _MACROS.get(expression.strip().lower(), expression).split()
    values: tuple[tuple[int, ...], ...] = (fields.minutes, fields.hours, fields.days, fields.months, fields.weekdays)
    values = (fields.seconds, *values) if len(shown) > len(_FIELDS) else values
    plain = [
        ",".join(map(str, v)) if "h" in p.lower().replace("thu", "") else p for p, v in zip(shown, values, strict=True)
    ]
    return str(get_description(" ".join(plain), options))
