"""
Make the entries of a schedule: `cron`, `every`, `solar`, `once`. Each is checked when it is made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from celery_platform.beat.recurrence import Cron, Every, Fold, Gap, Once, Recurrence
from celery_platform.beat.rules import Rules, RuleWords
from celery_platform.beat.sun import Solar
from celery_platform.errors import PayloadInvalid, ScheduleError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

__all__ = ["Entry", "EntryWords", "cron", "every", "once", "solar"]

_LONGEST_NAME = 200
_LONGEST_SEARCH = 20_000


class EntryWords(RuleWords, total=False):
    """The words all four kinds of entry take; those of `Rules` and these."""

    name: str | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any] | None
    queue: str | None
    enabled: bool
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One line of the schedule: when which task runs with what, and by which rules.

    *args* and *kwargs* are in the JSON form in which they travel.
    """

    name: str
    task: str
    recurrence: Recurrence
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    queue: str | None = None
    enabled: bool = True
    description: str = ""
    rules: Rules = field(default_factory=Rules)

    def after(self, moment: datetime) -> datetime | None:
        """
        Return the first nominal time after *moment* (UTC) that start, end, windows, blackouts and holidays admit.

        Returns None when there is none.
        """
        rules = self.rules
        if rules.start is not None and moment < rules.start:
            moment = rules.start - timedelta(microseconds=1)
        for _ in range(_LONGEST_SEARCH):
            found = self.recurrence.after(moment)
            if found is None or (rules.end is not None and found > rules.end):
                return None
            opening = found if rules.calendar.always_open else rules.calendar.opens(found)
            if opening is None or opening == found:
                return opening
            moment = opening - timedelta(microseconds=1)
        return None

    def delay(self, nominal: datetime) -> timedelta:
        """
        Return the jitter of the firing at *nominal*: the same whoever asks, below the entry's bound.
        """
        if not self.rules.jitter:
            return timedelta(0)
        digest = sha256(f"{self.name}\0{nominal.isoformat()}".encode()).digest()
        return self.rules.jitter * (int.from_bytes(digest[:8], "big") / 2**64)


def cron(
    expression: str, task: Any, *, gap: Gap | None = None, fold: Fold | None = None, **words: Unpack[EntryWords]
) -> Entry:
    """
    Run *task* at the times of a cron *expression* on the clocks of *timezone* (UTC unless given).

    Five fields, or six with seconds first; ``H`` takes a place that depends on the entry's name. *gap* (``shift`` or
    ``skip``) and *fold* (``first`` or ``both``) rule the hour that does not exist and the hour that comes twice; left
    open, entries that name an hour shift and take the first, the others count real time.

    Raises `ScheduleError` for an expression, zone, task or argument that cannot work.
    """
    name = _name(task, words)
    return _made(name, lambda: Cron(expression, words.get("timezone", "UTC"), gap, fold, name), task, words)


def every(
    task: Any,
    *,
    weeks: float = 0,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
    anchor: datetime | None = None,
    **words: Unpack[EntryWords],
) -> Entry:
    """
    Run *task* at a steady interval, counted from *anchor*, else from *start*, else from midnight UTC of 1 January 1970.

    The interval is real time: changes of the clocks do not touch it. Raises `ScheduleError` as `cron` does.
    """
    name = _name(task, words)
    interval = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    begin = anchor or words.get("start")
    return _made(name, lambda: Every(interval) if begin is None else Every(interval, begin), task, words)


def solar(event: str, latitude: float, longitude: float, task: Any, **words: Unpack[EntryWords]) -> Entry:
    """
    Run *task* at a solar *event* (``sunrise``, ``sunset``, ``solar_noon``, ``dawn_civil``, …) of a place in degrees.

    Days without the event are skipped. Raises `ScheduleError` as `cron` does.
    """
    return _made(_name(task, words), lambda: Solar(event, latitude, longitude), task, words)


def once(at: datetime, task: Any, **words: Unpack[EntryWords]) -> Entry:
    """
    Run *task* once, at the moment *at*, which must name its time zone.

    Raises `ScheduleError` as `cron` does.
    """
    return _made(_name(task, words), lambda: Once(at), task, words)


def _made(name: str, recurrence: Callable[[], Recurrence], task: Any, words: EntryWords) -> Entry:
    given: dict[str, Any] = dict(words)
    own = {word: given.pop(word) for word in _OWN if word in given}
    unknown = sorted(set(given) - set(RuleWords.__annotations__))
    where = f"The schedule entry {name!r}"
    if unknown:
        hint = did_you_mean(unknown[0], [*_OWN, *RuleWords.__annotations__])
        raise ScheduleError(f"{where}: {unknown[0]!r} is no word of an entry.{hint}")
    try:
        args, kwargs = _arguments(task, own.get("args", ()), own.get("kwargs") or {})
        entry = Entry(
            name=name,
            task=_task_name(task),
            recurrence=recurrence(),
            args=args,
            kwargs=kwargs,
            queue=own.get("queue"),
            enabled=own.get("enabled", True),
            description=own.get("description", ""),
            rules=Rules(**given),
        )
        _ever_due(entry)
    except ScheduleError as error:
        raise ScheduleError(f"{where}: {error}") from None
    return entry


_OWN = ("name", "args", "kwargs", "queue", "enabled", "description")


def _name(task: Any, words: EntryWords) -> str:
    name = words.get("name") or _task_name(task)
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
        raise ScheduleError(f"The name of a schedule entry expected 1 to {_LONGEST_NAME} characters, got {name!r}.")
    return name


def _task_name(task: Any) -> str:
    name = task if isinstance(task, str) else getattr(task, "name", None)
    if not isinstance(name, str) or not name:
        raise ScheduleError(
            f"A schedule entry expected a task or its name, got {task!r}. Decorate the function with @platform_task."
        )
    return name


def _arguments(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    contract = getattr(task, "contract", None)
    if contract is not None:
        try:
            dumped: tuple[tuple[Any, ...], dict[str, Any]] = contract.dump(args, kwargs)
        except PayloadInvalid as error:
            raise ScheduleError(str(error)) from error
        args, kwargs = dumped
    try:
        json.dumps([args, kwargs])
    except TypeError as error:
        raise ScheduleError(
            f"the arguments cannot be written as JSON ({error}). Name the task object instead of its text: its "
            "annotations then say how values travel."
        ) from error
    return tuple(args), dict(kwargs)


def _ever_due(entry: Entry) -> None:
    if isinstance(entry.recurrence, Once):
        return
    begin = entry.rules.start or datetime.combine(date(2024, 1, 1), datetime.min.time(), UTC)
    if entry.after(begin) is None:
        raise ScheduleError(
            "it is never due: its windows, blackouts, holidays, start and end leave no time. Widen one of them."
        )
