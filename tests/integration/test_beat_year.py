"""
A simulated year of three schedulers, both changes of the clocks in three zones, and a leader that dies every hour.
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from celery_platform.beat import cron, every
from tests.schedules import World, use_database

BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
HOUR = timedelta(hours=1)


class Crash(BaseException):
    """The process dies here."""


def schedule():
    return [
        *(cron("30 * * * *", "tasks.hourly", name=f"hourly {zone}", timezone=zone) for zone in ZONES),
        *(cron("30 2 * * *", "tasks.nightly", name=f"nightly {zone}", timezone=zone) for zone in ZONES),
        *(cron("15 1 * * *", "tasks.early", name=f"early {zone}", timezone=zone) for zone in ZONES),
        every("tasks.steady", hours=3, name="steady"),
    ]


def expected():
    """
    Count, minute by minute through the year and with nothing of the scheduler's, how often each entry must fire.
    """
    counts = Counter()
    nights = {(zone, name): set() for zone in ZONES for name in ("nightly", "early")}
    for zone in ZONES:
        moment = BEGIN + timedelta(minutes=1)
        wall_zone = ZoneInfo(zone)
        # Every zone's offset is a whole number of quarters of an hour; all times here fall on them.
        moment = BEGIN + timedelta(minutes=15)
        while moment <= END:
            wall = moment.astimezone(wall_zone)
            counts[f"hourly {zone}"] += wall.minute == 30
            for name, (hour, minute) in {"nightly": (2, 30), "early": (1, 15)}.items():
                if (wall.hour, wall.minute) == (hour, minute):
                    nights[zone, name].add(wall.date())
            moment += timedelta(minutes=15)
    for (zone, name), days in nights.items():
        first, last = min(days), max(days)
        # A night whose time does not exist still has its run, shifted.
        counts[f"{name} {zone}"] = (last - first).days + 1
    counts["steady"] = 365 * 8 - 1
    return counts


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_year_with_a_leader_killed_every_hour_misses_and_doubles_nothing(tmp_path):
    use_database(f"sqlite:///{tmp_path}/beat.sqlite3")
    from django.db import connection

    # A power cut is not part of this test, and a disk that is waited for is most of its time.
    connection.cursor().execute("PRAGMA synchronous=OFF")
    world = World(BEGIN)
    chance = random.Random(7)
    armed = []

    def crash(_):
        if armed:
            armed.pop()
            raise Crash

    engines = [world.scheduler(schedule()) for _ in range(3)]
    kills = 0
    next_kill = BEGIN + HOUR
    while world.now < END:
        waits = []
        for place, engine in enumerate(engines):
            leading = engine.ledger is not None
            if leading and world.now >= next_kill:
                next_kill += HOUR
                kills += 1
                where = chance.choice(("before", "after", "idle"))
                world.workers.before_send = crash if where == "before" else lambda _: None
                world.workers.after_send = crash if where == "after" else lambda _: None
                armed[:] = [True] if where != "idle" else []
                if where == "idle":
                    engines[place] = world.scheduler(schedule())
                    continue
            try:
                waits.append(engine.tick())
            except Crash:
                # The dead one holds its lease until it runs out; another process starts in its place.
                engines[place] = world.scheduler(schedule())
        leads = any(engine.ledger is not None for engine in engines)
        pause = min(max(waits), (next_kill - world.now).total_seconds()) if leads else 1.0
        pause = max(0.5, min(pause, (END - world.now).total_seconds()))
        if leads:
            # Alive, it would have renewed its lease all along.
            world.lease_lasts(pause)
        world.clock.advance(pause)
    fired = Counter(entry for entry, _ in world.workers.started)
    assert kills > 8_000
    assert len(world.workers.started) == len(set(world.workers.started))
    wanted = expected()
    assert {name: fired[name] - count for name, count in wanted.items() if fired[name] != count} == {}
