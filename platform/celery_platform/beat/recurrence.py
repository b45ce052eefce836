"""
Find the next time of a recurrence, with a stated answer for hours that do not exist or come twice.

Every recurrence is a frozen value with one question, `after(moment)`; moments are aware, answers are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from celery_platform.beat.cron import CronFields, describe, parse
from celery_platform.errors import ScheduleError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Cron", "Every", "Fold", "Gap", "Once", "Recurrence", "aware", "instants", "read", "zone_named"]

Gap = Literal["shift", "skip"]
Fold = Literal["first", "both"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Clocks are set back by at most this much in any rule still in force.
_LARGEST_FOLD = timedelta(hours=3)


class Recurrence(Protocol):
    """What knows when an entry is due."""

    def after(self, moment: datetime) -> datetime | None:
        """
        Return the first due time strictly after *moment*, in UTC, or nothing when there is none.
        """

    def described(self) -> str:
        """
        Say it in words.
        """

    def to_json(self) -> dict[str, Any]:
        """
        Return it as plain values.
        """


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo:
    """
    Return the zone *name*.

    Raises `ScheduleError` for a name that the time zone database does not know.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(
            f"{name!r} is no time zone of the tz database.{did_you_mean(name, available_timezones())} "
            "Write a name such as 'Europe/Berlin', or 'UTC'."
        ) from None


def aware(moment: datetime, what: str) -> datetime:
    """
    Return *moment* in UTC.

    Raises `ScheduleError` for a naive one: nobody can tell which instant it means.
    """
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise ScheduleError(
            f"{what} expected a datetime with a time zone, got {moment!r}. Write datetime(…, tzinfo=UTC)."
        )
    return moment.astimezone(UTC)


def instants(wall: datetime, zone: tzinfo, gap: Gap, fold: Fold) -> tuple[datetime, ...]:
    """
    Return the instants (UTC) that the naive *wall* stands for: none, one, or two.

    A wall time in a gap is shifted by the length of the gap (02:30 becomes 03:30) or skipped; one that comes twice
    is taken at its first coming or at both.
    """
    early, late = wall.replace(tzinfo=zone), wall.replace(tzinfo=zone, fold=1)
    before, behind = early.utcoffset() or timedelta(), late.utcoffset() or timedelta()
    first = (wall - before).replace(tzinfo=UTC)
    if before == behind:
        return (first,)
    if before < behind:  # the clock was set forward over this time
        return (first,) if gap == "shift" else ()
    return (first,) if fold == "first" else (first, (wall - behind).replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Cron:
    """
    A cron *expression* on the clocks of *zone*; *salt* places ``H``.

    Left open, an entry that names hours shifts out of a *gap* and takes the *first* of a doubled hour, so that it runs
    once a day; one that runs in every hour counts real time: nothing in the gap, and *both* doubled hours.
    """

    expression: str
    zone: str = "UTC"
    gap: Gap | None = None
    fold: Fold | None = None
    salt: str = ""
    either_day: bool | None = None
    fields: CronFields = field(init=False, repr=False, compare=False)
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _one_of("gap", self.gap, Gap)
        _one_of("fold", self.fold, Fold)
        object.__setattr__(self, "_zone", zone_named(self.zone))
        object.__setattr__(self, "fields", parse(self.expression, self.salt, either_day=self.either_day))

    @property
    def policies(self) -> tuple[Gap, Fold]:
        """
        What happens in the hour that does not exist, and in the hour that comes twice.
        """
        every_hour = self.fields.every_hour
        return self.gap or ("skip" if every_hour else "shift"), self.fold or ("both" if every_hour else "first")

    def after(self, moment: datetime) -> datetime | None:
        """
        Return the first due time strictly after *moment*, in UTC, or nothing when there is none.
        """
        gap, fold = self.policies
        best: datetime | None = None
        for wall, highest in self._walls(moment):
            if best is not None and (wall - highest).replace(tzinfo=UTC) > best:
                break
            for instant in instants(wall, self._zone, gap, fold):
                if instant > moment and (best is None or instant < best):
                    best = instant
            if best is not None and highest is _NO_FOLD:
                break
        return best

    def _walls(self, moment: datetime) -> Iterator[tuple[datetime, timedelta]]:
        """
        Yield matching wall times in order, from early enough, with the highest offset from UTC around *moment*.
        """
        around = [(moment + shift).astimezone(self._zone).utcoffset() or timedelta() for shift in _AROUND]
        lowest, highest = min(around), max(around)
        local = moment.astimezone(self._zone).replace(tzinfo=None)
        # Near a change the order of wall times is not the order of instants: begin early, and look past the first find.
        wall = self.fields.after(local - (highest - lowest) - _MICROSECOND if highest > lowest else local)
        while wall is not None:
            yield wall, highest if highest > lowest else _NO_FOLD
            wall = self.fields.after(wall)

    def described(self) -> str:
        """
        Say it in words.
        """
        return f"{describe(self.expression, self.salt)} ({self.zone})"

    def to_json(self) -> dict[str, Any]:
        """
        Return it as plain values.
        """
        optional = {"gap": self.gap, "fold": self.fold, "either_day": self.either_day}
        words = {"kind": "cron", "expression": self.expression, "zone": self.zone, "salt": self.salt}
        return words | {name: value for name, value in optional.items() if value is not None}


_NO_FOLD = timedelta.max
_AROUND = (-_LARGEST_FOLD, timedelta(0), _LARGEST_FOLD)


@dataclass(frozen=True, slots=True)
class Every:
    """A steady *interval*, counted from *anchor*: the same times whoever asks, and whenever it was started."""

    interval: timedelta
    anchor: datetime = _EPOCH

    def __post_init__(self) -> None:
        if self.interval < timedelta(seconds=1):
            raise ScheduleError(f"every() expected at least one second, got {self.interval.total_seconds():g} s.")
        object.__setattr__(self, "anchor", aware(self.anchor, "every(anchor=…)"))

    def after(self, moment: datetime) -> datetime | None:
        """
        Return the first due time strictly after *moment*, in UTC; the anchor itself is the first of all.
        """
        if moment < self.anchor and self.anchor != _EPOCH:
            return self.anchor
        return self.anchor + ((moment - self.anchor) // self.interval + 1) * self.interval

    def described(self) -> str:
        """
        Say it in words.
        """
        return f"every {self.interval}"

    def to_json(self) -> dict[str, Any]:
        """
        Return it as plain values.
        """
        return {"kind": "every", "seconds": self.interval.total_seconds(), "anchor": self.anchor.isoformat()}


@dataclass(frozen=True, slots=True)
class Once:
    """A single moment."""

    at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", aware(self.at, "once(at)"))

    def after(self, moment: datetime) -> datetime | None:
        """
        Return the moment, unless it is over.
        """
        return self.at if self.at > moment else None

    def described(self) -> str:
        """
        Say it in words.
        """
        return f"once at {self.at.isoformat()}"

    def to_json(self) -> dict[str, Any]:
        """
        Return it as plain values.
        """
        return {"kind": "once", "at": self.at.isoformat()}


def _one_of(name: str, value: str | None, words: Any) -> None:
    known = get_args(words)
    if value is not None and value not in known:
        raise ScheduleError(
            f"{name} expected one of {', '.join(known)}, got {value!r}.{did_you_mean(str(value), known)}"
        )


def read(words: Mapping[str, Any]) -> Recurrence:
    """
    Return the recurrence that `to_json` wrote.

    Raises `ScheduleError` when the values describe none.
    """
    from celery_platform.beat.sun import Solar

    try:
        kind, rest = words["kind"], {name: value for name, value in words.items() if name != "kind"}
        if kind == "every":
            return Every(timedelta(seconds=rest["seconds"]), datetime.fromisoformat(rest["anchor"]))
        if kind == "once":
            return Once(datetime.fromisoformat(rest["at"]))
        return Cron(**rest) if kind == "cron" else {"solar": Solar}[kind](**rest)
    except (KeyError, TypeError, ValueError) as error:
        raise ScheduleError(f"The stored recurrence cannot be read ({error!r}): {dict(words)!r}.") from error
