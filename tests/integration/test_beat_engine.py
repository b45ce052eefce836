"""
What a scheduler does with entries, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from celery_platform import events
from celery_platform.beat import cron, every, once
from celery_platform.events import EntryDisabled, EntryOverdue, EntryPaused, FiringsMissed
from tests.schedules import World, states, use_database

MINUTE = timedelta(minutes=1)


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture(scope="module")
def _postgres_url(request):
    return request.getfixturevalue("postgres_server").create_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request, tmp_path_factory):
    if request.param == "sqlite":
        use_database(f"sqlite:///{tmp_path_factory.mktemp('beat')}/beat.sqlite3")
    else:
        use_database(request.getfixturevalue("_postgres_url"))
    from django.db import connections
    from django_celery_beat.models import PeriodicTask

    from celery_platform.beat.site.models import Firing, Leadership, Version

    for model in (Firing, Leadership, Version, PeriodicTask):
        model.objects.all().delete()
    yield World()
    connections.close_all()


@pytest.fixture
def heard():
    seen = []
    events.subscribe(seen.append)
    yield seen
    events.unsubscribe(seen.append)


def minutely(name="job", **words):
    return every(f"tasks.{name}", minutes=1, name=name, **words)


def test_each_nominal_time_fires_once_and_is_recorded_with_its_outcome(world):
    world.run(world.scheduler([minutely()]), 5 * MINUTE)
    assert world.minutes("job") == [0, 1, 2, 3, 4]
    assert states("job")[:4] == ["succeeded"] * 4


def test_a_crash_after_the_claim_loses_nothing_and_a_crash_after_the_send_doubles_no_run(world):
    fatal = [True]

    def crash(_):
        if fatal:
            fatal.pop()
            raise Crash

    world.workers.before_send = crash
    with pytest.raises(Crash):
        world.run(world.scheduler([minutely(overlap="allow_all")]), 5 * MINUTE)
    world.run(world.scheduler([minutely(overlap="allow_all")]), timedelta(seconds=30))
    assert world.minutes("job") == [0]

    world.workers.before_send = lambda _: None
    world.workers.after_send = crash
    world.workers.result = lambda _: None
    fatal.append(True)
    with pytest.raises(Crash):
        world.run(world.scheduler([minutely(overlap="allow_all")]), 5 * MINUTE)
    world.run(world.scheduler([minutely(overlap="allow_all")]), 3 * MINUTE)
    assert world.minutes("job") == [0, 1, 2, 3, 4]
    # The second copy of minute 1 is what workers refuse.
    assert len(world.workers.copies) == 6


def test_a_leader_that_slept_through_its_lease_writes_nothing(world):
    from celery_platform.beat.ledger import Deposed, Ledger

    old, new = world.scheduler([minutely()]), world.scheduler([minutely()])
    old.tick()
    ledger = old.ledger
    world.clock.advance(60)
    new.tick()
    with pytest.raises(Deposed):
        ledger.claim([], [], world.now)
    assert new.ledger.fence > ledger.fence
    assert Ledger.floor() == new.ledger.fence
    old.tick()
    assert old.ledger is None


@pytest.mark.parametrize(
    ("policy", "runs", "fates"),
    [
        ("skip", [0, 3, 6], ["succeeded", "skipped", "skipped", "succeeded", "skipped", "skipped"]),
        ("buffer_one", [0, 1, 3], ["succeeded", "succeeded", "skipped", "sent", "skipped", "skipped"]),
        ("buffer_all", [0, 1, 2], ["succeeded", "succeeded", "sent", "buffered", "buffered", "buffered"]),
        ("allow_all", [0, 1, 2, 3, 4, 5, 6], ["succeeded"] * 4),
    ],
)
def test_a_job_three_ticks_long_is_ruled_by_its_overlap_policy(world, policy, runs, fates):
    ends = {}
    world.workers.result = lambda held: ends.setdefault(held.call_id, world.now + 2.9 * MINUTE) and None
    engine = world.scheduler([minutely(overlap=policy)])
    for _ in range(13 * 30):
        world.clock.advance(1)
        world.workers.ends |= {call: "succeeded" for call, at in ends.items() if at <= world.now}
        for call in world.workers.ends:
            ends.pop(call)
        engine.tick()
    assert world.minutes("job") == runs
    assert states("job")[: len(fates)] == fates


def test_cancel_other_asks_the_run_to_stop_and_goes_on_when_it_has_ended(world):
    world.workers.result = lambda _: None
    engine = world.scheduler([minutely(overlap="cancel_other")])
    world.run(engine, 2.2 * MINUTE)
    first = world.workers.copies[0]
    assert world.workers.stopped[0] == (first, False)
    assert world.minutes("job") == [0]
    world.run(engine, MINUTE)
    world.workers.ends[first] = "cancelled"
    world.run(engine, timedelta(seconds=5))
    # Of those that waited only the newest was kept.
    assert world.minutes("job") == [0, 2]
    assert states("job") == ["cancelled", "skipped", "sent"]


def test_terminate_other_kills_the_run_and_goes_on_at_once(world):
    world.workers.result = lambda _: None
    world.run(world.scheduler([minutely(overlap="terminate_other")]), 2.2 * MINUTE)
    assert world.workers.stopped == [(world.workers.copies[0], True)]
    assert states("job") == ["cancelled", "sent"]


@pytest.mark.parametrize(
    ("misfire", "made_up"),
    [("skip", []), ("one", []), ("all", list(range(2, 11))), ("all(3)", [8, 9, 10])],
)
def test_ten_minutes_of_downtime_are_made_up_for_as_the_misfire_policy_says(world, heard, misfire, made_up):
    schedule = [minutely(misfire=misfire, overlap="allow_all")]
    world.run(world.scheduler(schedule), 1.6 * MINUTE)
    assert world.minutes("job") == [0, 1]
    world.clock.advance(600)
    # Minute 11 is 5 seconds old: late, not missed.
    world.run(world.scheduler(schedule), timedelta(seconds=4))
    assert world.minutes("job") == [0, 1, *made_up, 11]
    given_up = [event.count for event in heard if isinstance(event, FiringsMissed)]
    assert given_up == ([] if misfire == "all" else [9 - len(made_up)])


def test_one_makes_up_for_the_newest_when_none_is_merely_late(world):
    schedule = [every("tasks.job", minutes=10, name="job", misfire="one")]
    world.run(world.scheduler(schedule), MINUTE)
    world.clock.advance(3600 - 120)
    world.run(world.scheduler(schedule), timedelta(seconds=4))
    assert world.minutes("job") == [0, 50]


def test_a_chain_runs_in_order_and_stops_behind_a_failing_middle(world):
    chain = [
        minutely("load", after=["transform"]),
        minutely("transform", after=["extract"]),
        minutely("extract"),
        minutely("report", after=["load"], on_upstream_failure="run"),
    ]
    failing = {2}
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    world.workers.result = lambda held: (
        "failed" if held.entry == "transform" and (held.nominal - noon) // MINUTE in failing else "succeeded"
    )
    world.run(world.scheduler(chain), 4.2 * MINUTE)
    assert world.minutes("extract") == [0, 1, 2, 3]
    assert world.minutes("transform") == [0, 1, 2, 3]
    assert world.minutes("load") == [0, 1, 3]
    assert world.minutes("report") == [0, 1, 2, 3]
    assert states("load")[2] == "skipped"
    order = [name for name, nominal in world.workers.started if nominal == noon]
    assert order == ["extract", "transform", "load", "report"]


def test_a_firing_waits_for_its_upstream_no_longer_than_its_timeout(world):
    world.workers.result = lambda held: None if held.entry == "extract" else "succeeded"
    chain = [minutely("extract", overlap="allow_all"), minutely("load", after=["extract"], after_timeout=90)]
    world.run(world.scheduler(chain), 2 * MINUTE)
    assert states("load")[0] == "waiting"
    world.run(world.scheduler(chain), MINUTE)
    assert states("load")[0] == "skipped"
    assert world.minutes("load") == []


def test_a_pause_lets_times_pass_and_ends_by_itself_or_by_hand(world):
    from celery_platform.beat import history

    engine = world.scheduler([minutely(misfire="all", overlap="allow_all")])
    world.run(engine, MINUTE)
    from django_celery_beat.models import PeriodicTasks

    from celery_platform.beat.site.models import Plan

    Plan.objects.update(paused_at=world.now, paused_until=world.now + 3 * MINUTE, paused_reason="lunch")
    PeriodicTasks.update_changed()
    world.run(engine, 5 * MINUTE)
    assert world.minutes("job") == [0, 4, 5]
    Plan.objects.update(paused_at=world.now, paused_until=None, paused_reason="again")
    PeriodicTasks.update_changed()
    world.run(engine, 3 * MINUTE)
    assert world.minutes("job") == [0, 4, 5]
    history.resume("job")
    world.run(engine, 2 * MINUTE)
    assert world.minutes("job") == [0, 4, 5, 9, 10]


def test_an_entry_pauses_itself_after_so_many_failures_in_a_row(world, heard):
    results = iter(["failed", "succeeded", "failed", "failed", "failed"])
    world.workers.result = lambda _: next(results)
    world.run(world.scheduler([minutely(pause_on_failure=2)]), 8 * MINUTE)
    assert world.minutes("job") == [0, 1, 2, 3]
    assert [event.reason for event in heard if isinstance(event, EntryPaused)] == ["2 runs failed in a row"]


def test_an_entry_ends_with_its_runs_and_with_its_moment(world):
    schedule = [minutely(max_runs=2), once(datetime(2026, 3, 2, 12, 3, tzinfo=UTC), "tasks.x", name="party")]
    world.run(world.scheduler(schedule), 5 * MINUTE)
    assert world.minutes("job") == [0, 1]
    assert world.minutes("party") == [3]
    # A new leader reads the tables anew, and has nothing more to do.
    world.run(world.scheduler(schedule), 8 * MINUTE)
    assert world.minutes("job") == [0, 1]
    assert world.minutes("party") == [3]


def test_jitter_delays_a_firing_and_keeps_its_nominal_time(world):
    entry = minutely(jitter=30)
    sent = {}
    world.workers.after_send = lambda held: sent.setdefault(held.nominal, world.now)
    world.run(world.scheduler([entry]), 4 * MINUTE)
    assert world.minutes("job")[:3] == [0, 1, 2]
    for nominal, at in sent.items():
        assert timedelta(0) <= at - nominal - entry.delay(nominal) <= timedelta(seconds=1)


def test_an_operator_gets_a_run_now_and_a_range_filled_in_so_many_at_a_time(world):
    from celery_platform.beat import history

    engine = world.scheduler([cron("0 0 1 1 *", "tasks.job", name="job"), minutely("other", enabled=False)])
    world.run(engine, timedelta(seconds=5))
    history.run_now("job")
    world.run(engine, timedelta(seconds=2))
    assert len(world.workers.started) == 1

    world.workers.result = lambda _: None
    begin, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    assert len(history.backfill("job", begin, end, width=2)) == 6
    assert history.backfill("job", begin, end, width=2) == []
    world.run(engine, timedelta(seconds=5))
    assert [nominal.year for _, nominal in world.workers.started[1:]] == [2020, 2021]
    while len(world.workers.started) < 7:
        world.workers.ends |= dict.fromkeys(world.workers.copies, "succeeded")
        world.run(engine, timedelta(seconds=2))
        assert states("job").count("sent") <= 2
    assert [nominal.year for _, nominal in world.workers.started[1:]] == list(range(2020, 2026))


def test_no_success_by_the_deadline_raises_an_alarm(world, heard):
    nightly = every("tasks.job", minutes=1, name="job", succeed_by="12:02", timezone="UTC", overlap="allow_all")
    world.workers.result = lambda _: "failed"
    world.run(world.scheduler([nightly]), 4 * MINUTE)
    assert [event.deadline for event in heard if isinstance(event, EntryOverdue)] == ["2026-03-02T12:02:00+00:00"]
    heard.clear()
    world.workers.result = lambda _: "succeeded"
    world.run(world.scheduler([nightly]), 3 * MINUTE)
    world.clock.advance(24 * 3600 - 7 * 60)
    world.run(world.scheduler([nightly]), 6 * MINUTE)
    assert not [event for event in heard if isinstance(event, EntryOverdue)]


def test_a_bad_row_is_disabled_with_an_event_and_the_others_go_on(world, heard):
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    never = CrontabSchedule.objects.create(minute="0", hour="0", day_of_month="31", month_of_year="2")
    PeriodicTask.objects.create(name="never", task="tasks.x", crontab=never)
    odd = CrontabSchedule.objects.create(minute="*/2")
    PeriodicTask.objects.create(name="odd", task="tasks.x", crontab=odd, kwargs="{not json")
    PeriodicTask.objects.create(name="fine", task="tasks.x", crontab=odd)
    world.run(world.scheduler([minutely()]), 3 * MINUTE)
    assert world.minutes("job") == [0, 1, 2]
    assert world.minutes("fine") == [0, 2]
    told = {event.entry: event.reason for event in heard if isinstance(event, EntryDisabled)}
    assert "never comes" in told["never"]
    assert "not JSON" in told["odd"]
    assert not PeriodicTask.objects.get(name="odd").enabled


def test_an_entry_made_in_the_admin_follows_the_same_rules(world):
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    from celery_platform.beat.site.models import Plan

    engine = world.scheduler()
    engine.tick()
    row = PeriodicTask.objects.create(
        name="mine", task="tasks.x", interval=IntervalSchedule.objects.create(every=1, period="minutes")
    )
    Plan.objects.create(periodic=row, rules=json.dumps({"windows": ["12:02-12:04"]}))
    world.run(engine, 8 * MINUTE)
    assert world.minutes("mine") == [2, 3]


def test_edits_of_an_operator_stay_and_are_shown_as_drift_until_both_agree(world):
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    from celery_platform.beat.history import listing

    v1 = [cron("0 2 * * *", "tasks.job", name="job", timezone="Europe/Berlin", kwargs={"n": 1})]
    world.scheduler(v1).tick()
    row = PeriodicTask.objects.get(name="job")
    row.crontab = CrontabSchedule.objects.create(minute="5", hour="3", timezone="Europe/Berlin")
    row.save()
    world.clock.advance(60)

    v2 = [cron("0 2 * * *", "tasks.job", name="job", timezone="Europe/Berlin", kwargs={"n": 2})]
    world.scheduler(v2).tick()
    row = PeriodicTask.objects.get(name="job")
    assert json.loads(row.kwargs) == {"n": 2}
    assert (row.crontab.minute, row.crontab.hour) == ("5", "3")
    (shown,) = listing()
    assert list(shown.drift) == ["recurrence"]
    assert "03:05" in shown.schedule

    row.crontab = CrontabSchedule.objects.get(minute="0", hour="2")
    row.save()
    assert listing()[0].drift == {}


def test_an_entry_that_left_the_code_is_disabled_and_comes_back_with_it(world):
    from django_celery_beat.models import PeriodicTask

    world.scheduler([minutely(), minutely("gone")]).tick()
    world.clock.advance(100)
    engine = world.scheduler([minutely()])
    engine.tick()
    assert list(PeriodicTask.objects.filter(enabled=True).values_list("name", flat=True)) == ["job"]
    started = len(world.workers.started)
    world.run(engine, 2 * MINUTE)
    assert "gone" not in {name for name, _ in world.workers.started[started:]}
    world.clock.advance(100)
    world.scheduler([minutely(), minutely("gone")]).tick()
    assert PeriodicTask.objects.filter(enabled=True).count() == 2


def test_of_two_versions_that_run_at_once_the_older_does_not_write(world):
    from django_celery_beat.models import PeriodicTask

    old, new = [minutely(description="old")], [minutely(description="new")]

    def described():
        return PeriodicTask.objects.get(name="job").description

    first = world.scheduler(old)
    first.tick()
    world.clock.advance(30)
    first.close()
    second = world.scheduler(new)
    second.tick()
    assert described() == "new"
    second.close()
    world.clock.advance(1)
    # A machine that still has the old version takes over: nothing flaps.
    world.scheduler(old).tick()
    assert described() == "new"
    # Rolled back everywhere: once nobody has the new version any more, the old one counts.
    world.clock.advance(200)
    world.scheduler(old).tick()
    assert described() == "old"


def test_a_broker_that_is_away_delays_firings_and_loses_none(world):
    away = [True]

    def refuse(_):
        if away[0]:
            raise ConnectionError("away")

    world.workers.before_send = refuse
    engine = world.scheduler([minutely(overlap="allow_all")])
    world.run(engine, 3.2 * MINUTE)
    assert world.workers.started == []
    away[0] = False
    world.run(engine, timedelta(seconds=5))
    assert world.minutes("job") == [0, 1, 2]


def test_a_leader_frozen_in_a_transaction_on_postgresql_does_not_hold_up_its_successor(postgres_server):
    import psycopg

    from celery_platform.beat.ledger import Ledger

    url = postgres_server.create_database()
    use_database(url)
    world = World()
    world.scheduler([minutely()]).tick()
    with closing(psycopg.connect(url, options="-c idle_in_transaction_session_timeout=1000")) as frozen:
        frozen.execute("UPDATE platform_beat_leadership SET fence = fence")
        # The successor waits for the lock until the server has ended the frozen session.
        Ledger(Ledger.floor() + 1).enthrone()
        assert frozen.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            frozen.execute("SELECT 1")


def test_our_own_sessions_may_not_idle_in_a_transaction(postgres_server):
    use_database(postgres_server.create_database())
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("4s",)


@pytest.mark.parametrize("entries", [10, 1000])
def test_a_tick_without_work_asks_the_tables_twice_whatever_the_number_of_entries(world, entries):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    engine = world.scheduler([cron("H 3 * * *", "tasks.job", name=f"job{n}") for n in range(entries)])
    world.run(engine, timedelta(seconds=3))
    world.clock.advance(1)
    with CaptureQueriesContext(connection) as asked:
        engine.tick()
    assert len(asked) == 2
