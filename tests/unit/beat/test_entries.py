"""
Entries are checked when they are made.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from celery_platform.beat import cron, every, once, solar
from celery_platform.beat.lint import problems
from celery_platform.beat.rules import Rules
from celery_platform.errors import ScheduleError
from celery_platform.payload import Contract


class Registered:
    """A task as entries see one: a name and a contract."""

    def __init__(self, function, name):
        self.name = name
        self.contract = Contract.of(function, task=name)


def report(day: date, copies: int = 1) -> None: ...


REPORT = Registered(report, "tasks.reports.report")


def test_a_task_names_its_entry_unless_a_name_is_given():
    assert cron("0 2 * * *", REPORT, args=[date(2026, 1, 1)]).name == "tasks.reports.report"
    assert cron("0 2 * * *", "tasks.x", name="nightly").name == "nightly"


def test_values_travel_in_the_form_the_annotations_give_them():
    assert every(REPORT, hours=1, kwargs={"day": date(2026, 1, 2)}).kwargs == {"day": "2026-01-02"}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: every(REPORT, hours=1), "missing 'day'"),
        (lambda: every(REPORT, hours=1, kwargs={"day": date(2026, 1, 1), "copys": 2}), "Did you mean 'copies'"),
        (lambda: every(REPORT, hours=1, kwargs={"day": 5}), "'day' expected date, got int"),
        (lambda: every("tasks.x", hours=1, kwargs={"day": date(2026, 1, 1)}), "cannot be written as JSON"),
        (lambda: every(None, hours=1), "expected a task or its name"),
        (lambda: every("tasks.x", hours=1, overlp="skip"), "Did you mean 'overlap'"),
        (lambda: every("tasks.x", hours=1, overlap="skp"), "Did you mean 'skip'"),
        (lambda: every("tasks.x", hours=1, misfire="never"), "misfire expected"),
        (lambda: every("tasks.x", hours=1, jitter=-1), "jitter expected seconds"),
        (lambda: every("tasks.x", hours=1, start=datetime(2026, 1, 1)), "a datetime with a time zone"),  # noqa: DTZ001
        (
            lambda: every(
                "tasks.x",
                hours=1,
                start=datetime(2026, 1, 2, tzinfo=UTC),
                end=datetime(2026, 1, 1, tzinfo=UTC),
            ),
            "expected to be later than",
        ),
        (lambda: every("tasks.x", hours=1, max_runs=0), "max_runs expected a whole number from 1"),
        (lambda: every("tasks.x", hours=1, after="extract"), "expected a list"),
        (lambda: every("tasks.x", hours=1, succeed_by="7:00"), "such as '07:00'"),
        (lambda: every("tasks.x", hours=1, on_upstream_failure="fail"), "'skip' or 'run'"),
        (lambda: every("tasks.x", hours=1, timezone="Mars/Olympus"), "no time zone"),
        (lambda: cron("0 12 * * *", "tasks.x", windows=["13:00-14:00"]), "never due"),
        (lambda: once(datetime(2026, 1, 1), "tasks.x"), "a datetime with a time zone"),  # noqa: DTZ001
        (lambda: solar("moonrise", 0, 0, "tasks.x"), "solar() expected one of"),
        (lambda: cron("0 2 * * *", "tasks.x", name=" "), "1 to 200 characters"),
    ],
)
def test_an_entry_that_cannot_work_is_refused_with_the_remedy(make, told):
    with pytest.raises(ScheduleError) as refusal:
        make()
    assert told in str(refusal.value)


def test_start_end_windows_and_holidays_bound_the_times():
    entry = every(
        "tasks.x",
        hours=6,
        start=datetime(2026, 12, 24, 12, tzinfo=UTC),
        end=datetime(2026, 12, 28, 12, tzinfo=UTC),
        windows=["mon-fri 06:00-20:00"],
        holidays=["12-25"],
    )
    found = []
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    while (moment := entry.after(moment)) is not None:
        found.append(moment)
    assert found == [
        datetime(2026, 12, 24, 12, tzinfo=UTC),
        datetime(2026, 12, 24, 18, tzinfo=UTC),
        datetime(2026, 12, 28, 6, tzinfo=UTC),
        datetime(2026, 12, 28, 12, tzinfo=UTC),
    ]


def test_jitter_is_the_same_for_a_firing_whoever_asks_and_below_its_bound():
    entry = every("tasks.x", minutes=1, jitter=30)
    twin = every("tasks.x", minutes=1, jitter=30)
    nominals = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(200)]
    delays = [entry.delay(nominal) for nominal in nominals]
    assert delays == [twin.delay(nominal) for nominal in nominals]
    assert all(timedelta(0) <= delay < timedelta(seconds=30) for delay in delays)
    assert len(set(delays)) == len(delays)


def test_rules_come_back_from_the_database_as_themselves():
    rules = Rules(
        timezone="Europe/Berlin",
        overlap="buffer_one",
        misfire="all(5)",
        catch_up=timedelta(hours=1),
        jitter=5,
        start=datetime(2026, 1, 1, tzinfo=UTC),
        windows=["mon-fri"],
        after=["extract"],
        succeed_by="07:00",
        pause_on_failure=3,
    )
    assert Rules.from_json(rules.to_json()) == rules
    assert Rules().to_json() == {}
    assert Rules.from_json(Rules(catch_up=None).to_json()).catch_up is None


def test_an_unknown_word_in_the_database_is_named():
    with pytest.raises(ScheduleError, match="Did you mean 'jitter'"):
        Rules.from_json({"jiter": 5})


def test_two_entries_of_one_name_are_a_problem():
    assert "2 entries are named 'tasks.x'" in problems([every("tasks.x", hours=1), every("tasks.x", hours=2)])[0]


def test_a_circle_of_dependencies_is_told_with_its_members():
    schedule = [
        every("tasks.a", hours=1, name="a", after=["c"]),
        every("tasks.b", hours=1, name="b", after=["a"]),
        every("tasks.c", hours=1, name="c", after=["b"]),
    ]
    assert problems(schedule) == [
        "Entries wait for each other: 'a' after 'c' after 'b' after 'a'. Remove one of these dependencies."
    ]


def test_a_dependency_on_nobody_is_a_problem():
    schedule = [every("tasks.a", hours=1, name="extract"), every("tasks.b", hours=1, name="load", after=["extrct"])]
    assert "Did you mean 'extract'" in problems(schedule)[0]
