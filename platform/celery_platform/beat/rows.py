"""
Translate between entries and rows of django-celery-beat with the plan beside each.

A row written by code keeps the exact recurrence in its plan; once an operator edits the row's schedule, the row is
what counts, read as django-celery-beat reads it (both day fields must match).
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from celery_platform.beat.cron import parse
from celery_platform.beat.entries import Entry
from celery_platform.beat.recurrence import Cron, Every, Once, Recurrence, read
from celery_platform.beat.rules import Rules
from celery_platform.beat.sun import Solar
from celery_platform.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["RELATED", "Linker", "basis", "entry_of", "fields_of", "printed"]

RELATED = ("interval", "crontab", "solar", "clocked", "plan")
_PERIODS = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
_MACRO_FIELDS = 5


def entry_of(row: Any) -> Entry:
    """
    Return the entry that a `PeriodicTask` *row* and its plan describe.

    Raises `ScheduleError` for a row that cannot work.
    """
    plan = getattr(row, "plan", None)
    words = _json("rules", plan.rules if plan else "", dict)
    rules = Rules.from_json(_with_columns(row, words))
    return Entry(
        name=row.name,
        task=row.task,
        recurrence=_recurrence(row, plan),
        args=tuple(_json("args", row.args, list)),
        kwargs=_json("kwargs", row.kwargs, dict),
        queue=row.queue or None,
        enabled=row.enabled,
        description=row.description,
        rules=rules,
    )


def _with_columns(row: Any, words: dict[str, Any]) -> dict[str, Any]:
    given = dict(words)
    if row.start_time is not None:
        given.setdefault("start", row.start_time)
    if row.expires is not None:
        given.setdefault("end", row.expires)
    if row.one_off and row.clocked is None:
        given.setdefault("max_runs", 1)
    if row.crontab is not None:
        given.setdefault("timezone", str(row.crontab.timezone))
    return given


def _json(what: str, text: str | None, kind: type) -> Any:
    try:
        value = json.loads(text) if text else kind()
    except ValueError as error:
        raise ScheduleError(f"{what} is not JSON ({error}): {text!r}. Mend it in the admin.") from None
    if not isinstance(value, kind):
        raise ScheduleError(f"{what} expected a JSON {'object' if kind is dict else 'list'}, got {text!r}.")
    return value


def _recurrence(row: Any, plan: Any) -> Recurrence:
    if plan is not None and plan.recurrence and plan.row_print == printed(row):
        return read(_json("recurrence", plan.recurrence, dict))
    if row.crontab is not None:
        return _cron_of(row.crontab)
    if row.interval is not None:
        interval = timedelta(**{row.interval.period: row.interval.every})
        return Every(interval, row.start_time) if row.start_time else Every(interval)
    if row.solar is not None:
        return Solar(row.solar.event, float(row.solar.latitude), float(row.solar.longitude))
    if row.clocked is not None:
        return Once(row.clocked.clocked_time)
    raise ScheduleError("it has no schedule. Choose one of interval, crontab, solar or clocked in the admin.")


def _cron_of(crontab: Any) -> Cron:
    if not crontab.timezone:
        raise ScheduleError("its crontab has no time zone, so nobody can tell when it is due. Set one in the admin.")
    return Cron(" ".join(_cron_columns(crontab)), str(crontab.timezone), either_day=False)


def _cron_columns(crontab: Any) -> tuple[str, ...]:
    columns = (crontab.minute, crontab.hour, crontab.day_of_month, crontab.month_of_year, crontab.day_of_week)
    return tuple(str(column).replace(" ", "") for column in columns)


def printed(row: Any) -> str:
    """
    Return the schedule columns of *row* as one text that changes when an operator edits them.
    """
    if row.crontab is not None:
        return f"crontab {' '.join(_cron_columns(row.crontab))} {row.crontab.timezone}"
    if row.interval is not None:
        return f"interval {row.interval.every} {row.interval.period}"
    if row.solar is not None:
        return f"solar {row.solar.event} {float(row.solar.latitude):.6f} {float(row.solar.longitude):.6f}"
    return f"clocked {row.clocked.clocked_time.isoformat()}" if row.clocked is not None else ""


def basis(entry: Entry) -> str:
    """
    Return what decides the times of *entry*, as one text: when it changes, the next time is sought anew.
    """
    rules = entry.rules
    bounds = (rules.timezone, rules.windows, rules.blackouts, rules.holidays, str(rules.start), str(rules.end))
    return json.dumps([entry.recurrence.to_json(), bounds], sort_keys=True)


def fields_of(entry: Entry) -> dict[str, Any]:
    """
    Return what code says about the row of *entry*, field by field, as drift is told.
    """
    return {
        "task": entry.task,
        "args": json.dumps(list(entry.args)),
        "kwargs": json.dumps(dict(entry.kwargs), sort_keys=True),
        "queue": entry.queue,
        "enabled": entry.enabled,
        "description": entry.description,
        "rules": json.dumps(entry.rules.to_json(), sort_keys=True),
        "recurrence": json.dumps(entry.recurrence.to_json(), sort_keys=True),
    }


class Linker:
    """Point rows at the schedule rows of django-celery-beat; each table is read once, missing rows are made."""

    def __init__(self) -> None:
        self._known: dict[Any, dict[tuple[Any, ...], Any]] = {}

    def make(self, recurrences: Iterable[Recurrence]) -> None:
        """
        Make the schedule rows that *recurrences* need and nobody has made, in one statement a table.
        """
        missing: dict[Any, dict[tuple[Any, ...], dict[str, Any]]] = {}
        for recurrence in recurrences:
            _, model, words = _shown(recurrence)
            key = _key(words)
            if key not in self._rows(model, words):
                missing.setdefault(model, {})[key] = words
        for model, wanted in missing.items():
            rows = model.objects.bulk_create([model(**words) for words in wanted.values()])
            self._known[model] |= zip(wanted, rows, strict=True)

    def link(self, row: Any, recurrence: Recurrence) -> None:
        """
        Point *row* at the schedule row that shows *recurrence*.
        """
        column, model, words = _shown(recurrence)
        row.interval = row.crontab = row.solar = row.clocked = None
        known, key = self._rows(model, words), _key(words)
        if key not in known:
            known[key] = model.objects.create(**words)
        setattr(row, column, known[key])
        if column == "clocked":
            row.one_off = True

    def _rows(self, model: Any, words: Mapping[str, Any]) -> dict[tuple[Any, ...], Any]:
        if model not in self._known:
            # Twins are possible in these tables; any of them shows the same.
            self._known[model] = {
                _key({name: getattr(row, name) for name in words}): row for row in model.objects.all()
            }
        return self._known[model]


def _key(words: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(_comparable(value) for value in words.values())


def _shown(recurrence: Recurrence) -> tuple[str, Any, dict[str, Any]]:
    """
    Return the column, the model and the words of the schedule row that shows *recurrence*.
    """
    from django_celery_beat import models

    match recurrence:
        case Cron():
            return "crontab", models.CrontabSchedule, _crontab_words(recurrence)
        case Every():
            return "interval", models.IntervalSchedule, _interval_words(recurrence.interval)
        case Solar():
            latitude, longitude = (Decimal(f"{degrees:.6f}") for degrees in (recurrence.latitude, recurrence.longitude))
            words = {"event": recurrence.event, "latitude": latitude, "longitude": longitude}
            return "solar", models.SolarSchedule, words
        case Once():
            return "clocked", models.ClockedSchedule, {"clocked_time": recurrence.at}
        case _:
            raise ScheduleError(f"{recurrence!r} is no recurrence that the tables of django-celery-beat can show.")


def _comparable(value: Any) -> Any:
    return value if isinstance(value, (int, str, datetime, Decimal)) else str(value)


def _interval_words(interval: timedelta) -> dict[str, Any]:
    for period, length in _PERIODS.items():
        count, rest = divmod(interval, timedelta(seconds=length))
        if not rest:
            return {"every": count, "period": period}
    return {"every": interval // timedelta(microseconds=1), "period": "microseconds"}


def _crontab_words(cron: Cron) -> dict[str, Any]:
    fields = parse(cron.expression, cron.salt, either_day=cron.either_day)
    columns = {
        "minute": _listed(fields.minutes, range(60)),
        "hour": _listed(fields.hours, range(24)),
        "day_of_month": _listed(fields.days, range(1, 32)),
        "month_of_year": _listed(fields.months, range(1, 13)),
        "day_of_week": _listed(fields.weekdays, range(7)),
    }
    written = cron.expression.split()[-_MACRO_FIELDS:]
    if len(written) == _MACRO_FIELDS and not any("H" in part.upper().replace("THU", "") for part in written):
        columns = dict(zip(columns, written, strict=True))
    return {**columns, "timezone": cron.zone}


def _listed(values: tuple[int, ...], whole: Iterable[int]) -> str:
    return "*" if values == tuple(whole) else ",".join(map(str, values))
