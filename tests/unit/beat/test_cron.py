"""
What a cron expression means, and what is refused.
"""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

import pytest

from celery_platform.beat.cron import describe, parse
from celery_platform.errors import ScheduleError


def at(text):
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 2 * * *", "2026-03-01T02:00:00", "2026-03-02T02:00:00"),
        ("0 2 * * *", "2026-03-01T01:59:59", "2026-03-01T02:00:00"),
        ("*/15 * * * *", "2026-03-01T23:50:00", "2026-03-02T00:00:00"),
        ("5/20 * * * *", "2026-03-01T00:00:00", "2026-03-01T00:05:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 31 * *", "2026-03-31T00:00:00", "2026-05-31T00:00:00"),
        ("0 9 * * mon-fri", "2026-03-06T09:00:00", "2026-03-09T09:00:00"),
        ("0 9 * * fri-mon", "2026-03-03T00:00:00", "2026-03-06T09:00:00"),
        ("0 9 * * 7", "2026-03-02T00:00:00", "2026-03-08T09:00:00"),
        ("0 9 * * 5-7", "2026-03-07T10:00:00", "2026-03-08T09:00:00"),
        ("0 0 1 jan,jul *", "2026-01-01T00:00:00", "2026-07-01T00:00:00"),
        ("30 15 10 * * *", "2026-03-01T10:15:29", "2026-03-01T10:15:30"),
        ("*/20 * * * * *", "2026-03-01T10:15:41", "2026-03-01T10:16:00"),
        ("@weekly", "2026-03-02T00:00:00", "2026-03-08T00:00:00"),
    ],
)
def test_the_next_time_is_the_first_match_after_the_moment(expression, after, expected):
    assert parse(expression).after(at(after)) == at(expected)


def test_two_restricted_day_fields_admit_a_day_that_matches_either():
    fields = parse("0 0 13 * fri")
    assert fields.after(at("2026-03-01T00:00:00")) == at("2026-03-06T00:00:00")
    assert fields.after(at("2026-04-11T00:00:00")) == at("2026-04-13T00:00:00")


def test_a_crontab_row_asks_for_both_day_fields_as_celery_does():
    fields = parse("0 0 13 * fri", either_day=False)
    assert fields.after(at("2026-01-01T00:00:00")) == at("2026-02-13T00:00:00")


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("31 2 *", "expected five fields"),
        ("* * * * * * *", "got 7"),
        ("", "got 0"),
        ("0 0 31 2 *", "never comes"),
        ("0 0 30 feb *", "never comes"),
        ("60 * * * *", "minute expected 0 to 59, got 60"),
        ("* 24 * * *", "hour expected 0 to 23, got 24"),
        ("* * 0 * *", "day of month expected 1 to 31, got 0"),
        ("* * * 13 *", "month expected 1 to 12, got 13"),
        ("* * * * 8", "day of week expected 0 to 6, got 8"),
        ("* * * * fry", "Did you mean 'fri'?"),
        ("*/0 * * * *", "a step of 1 to 60"),
        ("30-10 * * * *", "runs backwards"),
        ("1, * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("@dayly", "Did you mean '@daily'?"),
        ("0 0 L * *", "day of month expected a number or name, got 'L'"),
    ],
)
def test_an_expression_that_cannot_work_is_refused_with_the_field_and_the_remedy(expression, told):
    with pytest.raises(ScheduleError) as refusal:
        parse(expression)
    assert told in str(refusal.value)
    assert repr(expression) in str(refusal.value)


def test_h_is_the_same_for_one_name_and_spreads_over_many():
    assert parse("H H * * *", "reports") == parse("H H * * *", "reports")
    minutes = {parse("H * * * *", f"entry{n}").minutes for n in range(200)}
    assert len(minutes) > 40


def test_h_stays_within_its_bounds_and_steps_evenly():
    for n in range(100):
        assert parse("H(10-19) * * * *", f"e{n}").minutes[0] in range(10, 20)
        quarters = parse("H/15 * * * *", f"e{n}").minutes
        assert len(quarters) == 4
        assert {b - a for a, b in pairwise(quarters)} == {15}
        assert parse("0 0 H * *", f"e{n}").days[0] <= 28


def test_an_expression_is_said_in_words_with_its_h_resolved():
    assert describe("30 2 * * *") == "At 02:30"
    assert "H" not in describe("H H(1-5) * * *", "reports").replace("Hour", "").replace("At", "")
