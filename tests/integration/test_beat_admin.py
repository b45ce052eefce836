"""
The admin pages, as an operator opens them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from celery_platform.beat import every
from tests.schedules import World, states, use_database

TASKS = "/django_celery_beat/periodictask/"


@pytest.fixture
def world(tmp_path):
    use_database(f"sqlite:///{tmp_path}/beat.sqlite3")
    # Orders carry the time of this machine.
    return World(datetime.now(UTC).replace(second=30, microsecond=0))


@pytest.fixture
def operator(world):
    from django.test import Client

    from celery_platform.beat.site.serve import make_user

    make_user("ops", "correct-horse-battery")
    client = Client(headers={"host": "localhost"})
    assert client.login(username="ops", password="correct-horse-battery")
    return client


def test_the_pages_show_entries_drift_and_history_and_take_orders(world, operator):
    from django_celery_beat.models import PeriodicTask

    engine = world.scheduler([every("tasks.job", minutes=1, name="job", description="a job")])
    world.run(engine, timedelta(minutes=2))
    row = PeriodicTask.objects.get(name="job")
    row.description = "edited"
    row.save()

    page = operator.get(TASKS).content.decode()
    assert "every 0:01:00" in page
    assert "description (code: a job)" in page
    history = operator.get("/platform_beat/firing/").content.decode()
    assert f"{world.workers.started[0][1]:%Y-%m-%d %H:%M:%S}" in history
    assert operator.get(f"{TASKS}{row.pk}/change/").status_code == 200

    before = len(world.workers.started)
    operator.post(TASKS, {"action": "run_now", "_selected_action": [row.pk]})
    world.run(engine, timedelta(seconds=2))
    assert len(world.workers.started) == before + 1
    operator.post(TASKS, {"action": "pause", "_selected_action": [row.pk]})
    assert "paused: by ops in the admin" in operator.get(TASKS).content.decode()
    world.run(engine, timedelta(seconds=90))
    taken = len(world.workers.started)
    world.run(engine, timedelta(minutes=3))
    assert len(world.workers.started) == taken
    assert len(states("job")) == taken


def test_nobody_comes_in_without_a_password_and_nobody_edits_history(world, operator):
    from django.test import Client

    assert Client(headers={"host": "localhost"}).get(TASKS).status_code == 302
    assert operator.get("/platform_beat/firing/add/").status_code == 403


def test_a_short_password_is_refused(world):
    from celery_platform.beat.site.serve import make_user
    from celery_platform.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="at least 12 characters"):
        make_user("ops", "short")
