"""
Which missed firings are made up for.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from celery_platform.beat.misfire import GRACE, Misfire
from celery_platform.errors import ScheduleError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTES = [NOW - timedelta(minutes=n) for n in range(10, 1, -1)]


def test_skip_makes_up_for_none():
    assert Misfire.parse("skip").chosen(MINUTES, NOW, None) == ([], MINUTES)


def test_one_makes_up_for_the_newest():
    assert Misfire.parse("one").chosen(MINUTES, NOW, None) == (MINUTES[-1:], MINUTES[:-1])


def test_all_makes_up_for_each_up_to_its_number():
    assert Misfire.parse("all").chosen(MINUTES, NOW, None) == (MINUTES, [])
    assert Misfire.parse("all(3)").chosen(MINUTES, NOW, None) == (MINUTES[-3:], MINUTES[:-3])


def test_nothing_older_than_the_catch_up_window_is_made_up_for():
    fire, given_up = Misfire.parse("all").chosen(MINUTES, NOW, timedelta(minutes=4))
    assert fire == MINUTES[-3:]
    assert given_up == MINUTES[:-3]


@pytest.mark.parametrize("mode", ["skip", "one", "all"])
def test_what_is_late_by_the_grace_and_no_more_always_fires(mode):
    late = [NOW - GRACE, NOW]
    assert Misfire.parse(mode).chosen(late, NOW, timedelta(0)) == (late, [])


def test_one_is_served_by_a_firing_that_is_merely_late():
    assert Misfire.parse("one").chosen([*MINUTES, NOW], NOW, None) == ([NOW], MINUTES)


@pytest.mark.parametrize("text", ["", "none", "all(0)", "one(3)", "all(-1)", "all(100001)"])
def test_an_unknown_mode_is_refused(text):
    with pytest.raises(ScheduleError, match="'skip', 'one', 'all'"):
        Misfire.parse(text)
