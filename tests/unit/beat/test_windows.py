"""
When an entry may run.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from celery_platform.beat.windows import Calendar, Span
from celery_platform.errors import ScheduleError

BERLIN = ZoneInfo("Europe/Berlin")


def berlin(text):
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("mon-fri 08:00-18:00", "2026-03-02T08:00", "2026-03-02T18:00"),
        ("mon-fri 08:00-18:00", "2026-03-06T17:59", "2026-03-07T12:00"),
        ("22:00-06:00", "2026-03-02T05:59", "2026-03-02T06:00"),
        ("fri 22:00-06:00", "2026-03-07T03:00", "2026-03-06T03:00"),
        ("sat,sun", "2026-03-07T00:00", "2026-03-09T00:00"),
        ("2026-12-24..2027-01-02", "2027-01-02T23:59", "2027-01-03T00:00"),
        ("2026-12-24", "2026-12-24T12:00", "2026-12-25T12:00"),
        ("12-25", "2031-12-25T00:00", "2031-12-26T00:00"),
        ("20:00-24:00", "2026-03-02T23:59", "2026-03-02T00:00"),
    ],
)
def test_a_span_holds_what_its_text_says(span, inside, outside):
    assert Span.parse(span).holds(datetime.fromisoformat(inside))
    assert not Span.parse(span).holds(datetime.fromisoformat(outside))


@pytest.mark.parametrize(
    "text", ["", "noon", "mon-fri 8-18", "25:00-26:00", "2026-02-30", "13-01", "2027-01-02..2026-12-24"]
)
def test_a_span_that_cannot_be_read_is_refused_with_the_forms_that_can(text):
    with pytest.raises(ScheduleError, match="mon-fri 08:00-18:00"):
        Span.parse(text)


def test_a_window_opens_on_the_clock_of_the_zone_on_both_sides_of_a_change():
    calendar = Calendar.of(BERLIN, ["08:00-18:00"], [], [])
    assert calendar.opens(berlin("2026-03-28T20:00")) == berlin("2026-03-29T08:00")
    assert calendar.opens(berlin("2026-10-24T20:00")) == berlin("2026-10-25T08:00")


def test_blackouts_and_holidays_close_what_a_window_opens():
    calendar = Calendar.of(BERLIN, ["mon-fri 08:00-18:00"], ["12:00-13:00"], ["2026-12-25", "2026-12-28"])
    assert calendar.opens(berlin("2026-12-24T18:00")) == berlin("2026-12-29T08:00")
    assert calendar.opens(berlin("2026-12-29T12:30")) == berlin("2026-12-29T13:00")
    assert calendar.admits(berlin("2026-12-29T11:59"))


def test_a_calendar_that_never_opens_says_so():
    assert Calendar.of(BERLIN, ["2020-01-01"], [], []).opens(berlin("2026-01-01T00:00")) is None
