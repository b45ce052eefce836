"""
The next time of a recurrence, held against an oracle that shares no code with it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, available_timezones

import pytest
from dateutil import tz

from celery_platform.beat.recurrence import Cron, Every, Once, read
from celery_platform.beat.sun import Solar
from celery_platform.errors import ScheduleError

YEARS = (2026, 2026)
MINUTE = timedelta(minutes=1)
# Minutes and hours that match, as plain sets: the oracle knows nothing of cron.
EXPRESSIONS = {
    "30 * * * *": ({30}, set(range(24))),
    "*/10 * * * *": (set(range(0, 60, 10)), set(range(24))),
    "30 2 * * *": ({30}, {2}),
    "15,45 0-3,23 * * *": ({15, 45}, {0, 1, 2, 3, 23}),
}


def times(recurrence, begin, end):
    found = []
    moment = recurrence.after(begin)
    while moment is not None and moment <= end:
        found.append(moment)
        moment = recurrence.after(moment)
    return found


def zone_file(name):
    for folder in TZPATH:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    import tzdata

    return Path(tzdata.__file__).parent / "zoneinfo" / name


def transitions(zone):
    """
    Find, hour by hour, when the offset of *zone* changes.
    """
    moment, last = datetime(YEARS[0], 1, 1, tzinfo=UTC), datetime(YEARS[-1] + 1, 1, 1, tzinfo=UTC)
    before = moment.astimezone(zone).utcoffset()
    while moment < last:
        moment += timedelta(hours=6)
        now = moment.astimezone(zone).utcoffset()
        if now != before:
            yield moment
        before = now


class Oracle:
    """Minute by minute, with another library's reading of the same zone file."""

    def __init__(self, name, middle):
        self.zone = tz.tzfile(str(zone_file(name)))
        self.begin, self.end = middle - timedelta(days=1), middle + timedelta(days=1)
        self.walls = {}
        moment = self.begin - timedelta(days=1)
        while moment <= self.end + timedelta(days=1):
            self.walls[moment] = moment.astimezone(self.zone).replace(tzinfo=None, fold=0)
            moment += MINUTE
        self.known = {}
        self.first = {}
        for instant, wall in self.walls.items():
            self.first.setdefault(wall, instant)

    def expected(self, expression):
        """
        Return the times of *expression* between begin and end.
        """
        minutes, hours = EXPRESSIONS[expression]
        if expression not in self.known:
            find = self.real_time if len(hours) == 24 else self.once_a_day
            self.known[expression] = find(minutes, hours)
        return self.known[expression]

    def real_time(self, minutes, hours):
        """
        Every minute that shows a matching time on the wall, however often it comes.
        """
        return [
            instant
            for instant, wall in self.walls.items()
            if wall.minute in minutes and wall.hour in hours and self.begin < instant <= self.end
        ]

    def once_a_day(self, minutes, hours):
        """
        Every matching time on the wall once: at its first coming, or where it would have been.
        """
        found = set()
        wall, last = min(self.walls.values()), max(self.walls.values())
        while wall <= last:
            if wall.minute in minutes and wall.hour in hours:
                instant = self.first.get(wall)
                if instant is None:
                    instant = tz.resolve_imaginary(wall.replace(tzinfo=self.zone)).astimezone(UTC)
                if self.begin < instant <= self.end:
                    found.add(instant)
            wall += MINUTE
        return sorted(found)


@pytest.mark.slow
def test_every_zone_of_the_database_agrees_with_the_oracle_around_every_change_of_its_clocks():
    oracles = {}
    checked = 0
    wrong = []
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for middle in transitions(zone):
            # Many names are links to one file: minute by minute is slow, so each file is walked once.
            where = (zone_file(name).read_bytes(), middle)
            oracle = oracles.get(where) or oracles.setdefault(where, Oracle(name, middle))
            for expression in EXPRESSIONS:
                expected = oracle.expected(expression)
                found = times(Cron(expression, name), oracle.begin, oracle.end)
                checked += 1
                if found != expected:
                    wrong.append((name, middle, expression, set(found) ^ set(expected)))
    assert not wrong
    assert checked > 800


@pytest.mark.parametrize(
    ("zone", "gap_day", "wall", "shifted"),
    [
        ("Europe/Berlin", "2026-03-29", "30 2 * * *", "2026-03-29T01:30:00+00:00"),
        ("America/New_York", "2026-03-08", "30 2 * * *", "2026-03-08T07:30:00+00:00"),
        ("Australia/Lord_Howe", "2026-10-04", "15 2 * * *", "2026-10-03T15:45:00+00:00"),
    ],
)
def test_a_time_that_does_not_exist_is_shifted_or_skipped_as_told(zone, gap_day, wall, shifted):
    begin = datetime.fromisoformat(f"{gap_day}T00:00:00").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    end = begin + timedelta(hours=20)
    assert times(Cron(wall, zone), begin, end) == [datetime.fromisoformat(shifted)]
    assert times(Cron(wall, zone, gap="skip"), begin, end) == []


def test_a_time_that_comes_twice_is_taken_once_or_at_both_as_told():
    begin, end = datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 20, tzinfo=UTC)
    first, second = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert times(Cron("30 2 * * *", "Europe/Berlin"), begin, end) == [first]
    assert times(Cron("30 2 * * *", "Europe/Berlin", fold="both"), begin, end) == [first, second]


def test_an_hourly_entry_runs_in_both_passes_of_the_repeated_hour():
    begin = datetime(2026, 10, 24, 23, 59, tzinfo=UTC)
    found = times(Cron("15 * * * *", "Europe/Berlin"), begin, begin + timedelta(hours=4))
    assert [moment.hour for moment in found] == [0, 1, 2, 3]


def test_a_day_that_a_zone_left_out_is_shifted_over():
    # Samoa crossed the date line: 30 December 2011 does not exist there.
    begin = datetime(2011, 12, 29, 12, tzinfo=UTC)
    found = times(Cron("0 12 30 12 *", "Pacific/Apia"), begin, begin + timedelta(days=3))
    assert found == [datetime(2011, 12, 30, 22, tzinfo=UTC)]


def test_seconds_are_counted_through_the_repeated_hour():
    begin = datetime(2026, 10, 25, 0, 59, 50, tzinfo=UTC)
    found = times(Cron("*/5 * * * * *", "Europe/Berlin"), begin, begin + timedelta(seconds=20))
    assert found == [begin + timedelta(seconds=n) for n in (5, 10, 15, 20)]


def test_an_interval_is_counted_from_its_anchor_whoever_asks():
    every = Every(timedelta(minutes=7), datetime(2026, 1, 1, 0, 3, tzinfo=UTC))
    assert every.after(datetime(2025, 1, 1, tzinfo=UTC)) == every.anchor
    assert every.after(every.anchor) == every.anchor + timedelta(minutes=7)
    late = datetime(2026, 1, 1, 5, tzinfo=UTC)
    assert (every.after(late) - every.anchor) % timedelta(minutes=7) == timedelta(0)
    assert late < every.after(late) <= late + timedelta(minutes=7)


def test_a_single_moment_comes_once():
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    assert Once(moment).after(moment - MINUTE) == moment
    assert Once(moment).after(moment) is None


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Once(datetime(2026, 5, 1)), "a datetime with a time zone"),  # noqa: DTZ001
        (lambda: Cron("0 2 * * *", "Europe/Berlim"), "Did you mean 'Europe/Berlin'?"),
        (lambda: Cron("0 2 * * *", "../etc/passwd"), "no time zone"),
        (lambda: Cron("0 2 * * *", gap="shft"), "gap expected one of shift, skip"),
        (lambda: Cron("0 2 * * *", fold="last"), "fold expected one of first, both"),
        (lambda: Every(timedelta(milliseconds=500)), "at least one second"),
        (lambda: Solar("sunrice", 0, 0), "Did you mean 'sunrise'?"),
        (lambda: Solar("sunrise", 91, 0), "latitude of -90 to 90"),
    ],
)
def test_a_recurrence_that_cannot_work_is_refused_with_the_remedy(make, told):
    with pytest.raises(ScheduleError, match=told.replace("?", r"\?").replace("(", r"\(")):
        make()


@pytest.mark.parametrize(
    "recurrence",
    [
        Cron("H 2 * * *", "Europe/Berlin", gap="skip", fold="both", salt="reports"),
        Cron("0 0 13 * fri", either_day=False),
        Every(timedelta(seconds=90), datetime(2026, 1, 1, tzinfo=UTC)),
        Once(datetime(2026, 1, 1, tzinfo=UTC)),
        Solar("sunset", 52.52, 13.4),
    ],
)
def test_a_recurrence_comes_back_from_the_database_as_itself(recurrence):
    assert read(recurrence.to_json()) == recurrence


def test_the_sun_rises_and_sets_within_two_minutes_of_the_almanac():
    day = datetime(2026, 6, 21, tzinfo=UTC)
    # Berlin, 21 June 2026: sunrise 04:43, sunset 21:33 CEST.
    rise, fall = Solar("sunrise", 52.52, 13.405).after(day), Solar("sunset", 52.52, 13.405).after(day)
    assert abs(rise - datetime(2026, 6, 21, 2, 43, tzinfo=UTC)) <= timedelta(minutes=2)
    assert abs(fall - datetime(2026, 6, 21, 19, 33, tzinfo=UTC)) <= timedelta(minutes=2)


def test_days_without_the_event_are_skipped_near_the_pole():
    night = Solar("sunrise", 69.65, 18.96).after(datetime(2026, 12, 1, tzinfo=UTC))
    assert datetime(2027, 1, 10, tzinfo=UTC) < night < datetime(2027, 1, 20, tzinfo=UTC)
