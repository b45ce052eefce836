"""
Hold how an entry behaves, apart from when it is due: one frozen value, the same for code and for the database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from celery_platform.beat.misfire import Misfire
from celery_platform.beat.overlap import Overlap, checked
from celery_platform.beat.recurrence import aware, zone_named
from celery_platform.beat.windows import Calendar
from celery_platform.errors import ScheduleError, did_you_mean
from celery_platform.outcomes import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["RuleWords", "Rules", "UpstreamFailure"]

UpstreamFailure = Literal["skip", "run"]
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


class RuleWords(TypedDict, total=False):
    """The words of `Rules`, as `cron`, `every`, `solar` and `once` take them."""

    timezone: str
    overlap: Overlap
    misfire: str
    catch_up: timedelta | float | None
    jitter: timedelta | float
    start: datetime | None
    end: datetime | None
    max_runs: int | None
    windows: Sequence[str]
    blackouts: Sequence[str]
    holidays: Sequence[str | date]
    after: Sequence[str]
    after_timeout: timedelta | float
    on_upstream_failure: UpstreamFailure
    succeed_by: str | None
    pause_on_failure: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """
    How an entry behaves.

    *overlap*: what a firing does while an earlier run has not ended. *misfire* (``skip``, ``one``, ``all``, ``all(n)``)
    and *catch_up*: which missed firings are made up for, and how old they may be. *jitter*: the longest delay that
    spreads entries, always the same for one firing. *start*, *end*, *max_runs*: bounds of its life. *windows*,
    *blackouts*, *holidays*: spans (see `windows`) in which it may, or may not, run. *after*: entries whose firing
    of the same nominal time must have succeeded, waited for *after_timeout*; *on_upstream_failure* then says
    ``skip`` or ``run``. *succeed_by* (``HH:MM``): alarm when no firing of the day before that time has succeeded.
    *pause_on_failure*: pause after so many failed runs in a row. Durations are seconds or `timedelta`.

    Raises `ScheduleError` for words that cannot work.
    """

    timezone: str = "UTC"
    overlap: Overlap = "skip"
    misfire: str = "one"
    catch_up: timedelta | None = timedelta(days=365)
    jitter: timedelta = timedelta(0)
    start: datetime | None = None
    end: datetime | None = None
    max_runs: int | None = None
    windows: tuple[str, ...] = ()
    blackouts: tuple[str, ...] = ()
    holidays: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    after_timeout: timedelta = timedelta(hours=1)
    on_upstream_failure: UpstreamFailure = "skip"
    succeed_by: str | None = None
    pause_on_failure: int | None = None
    calendar: Calendar = field(init=False, repr=False, compare=False)
    missed: Misfire = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._normalise()
        checked(self.overlap)
        object.__setattr__(self, "missed", Misfire.parse(self.misfire))
        zone = zone_named(self.timezone)
        object.__setattr__(self, "calendar", Calendar.of(zone, self.windows, self.blackouts, self.holidays))
        if self.on_upstream_failure not in get_args(UpstreamFailure):
            raise ScheduleError(f"on_upstream_failure expected 'skip' or 'run', got {self.on_upstream_failure!r}.")
        if self.succeed_by is not None and not _CLOCK.fullmatch(self.succeed_by):
            raise ScheduleError(f"succeed_by expected a time of day such as '07:00', got {self.succeed_by!r}.")
        if self.start and self.end and self.end <= self.start:
            raise ScheduleError(
                f"end ({self.end.isoformat()}) expected to be later than start ({self.start.isoformat()})."
            )
        for name in ("max_runs", "pause_on_failure"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ScheduleError(f"{name} expected a whole number from 1, got {value!r}.")

    def _normalise(self) -> None:
        for name in ("catch_up", "jitter", "after_timeout"):
            value = getattr(self, name)
            if value is None and name == "catch_up":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)) or seconds(value) < 0:
                raise ScheduleError(f"{name} expected seconds or a timedelta of zero or more, got {value!r}.")
            object.__setattr__(self, name, timedelta(seconds=seconds(value)))
        for name in ("start", "end"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, aware(getattr(self, name), name))
        for name in ("windows", "blackouts", "holidays", "after"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ScheduleError(f"{name} expected a list of texts, got {value!r}. Write {name}=[{value!r}].")
            texts = (item.isoformat() if isinstance(item, date) else item for item in value)
            object.__setattr__(self, name, tuple(texts))

    def to_json(self) -> dict[str, Any]:
        """
        Return the words that differ from their defaults, as plain values.
        """
        words: dict[str, Any] = {}
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                words[name] = _plain(value)
        return words

    @classmethod
    def from_json(cls, words: Mapping[str, Any]) -> Rules:
        """
        Return the rules that *words* describe.

        Raises `ScheduleError` for an unknown word or an unusable value.
        """
        unknown = sorted(set(words) - set(_DEFAULTS))
        if unknown:
            raise ScheduleError(f"{unknown[0]!r} is no word of a schedule entry.{did_you_mean(unknown[0], _DEFAULTS)}")
        given = dict(words)
        for name in ("start", "end"):
            if isinstance(given.get(name), str):
                given[name] = _moment(name, given[name])
        return cls(**given)


_DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Rules) if f.init}


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return list(value) if isinstance(value, tuple) else value


def _moment(name: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ScheduleError(f"{name} expected an ISO 8601 time with a zone, got {text!r}.") from None
