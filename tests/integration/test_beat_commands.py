"""
`celery -A platform schedule`, as an operator uses it beside a running beat.
"""

from __future__ import annotations

import json

import pytest

from tests.deployment import CELERY, Deployment
from tests.servers import Program
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TASKS = """
import os, time
from celery_platform import current_call, platform_task

@platform_task
def note(word: str) -> None:
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{word} {current_call().scheduled_for.isoformat()}\\n")
"""

BEAT = """
from celery_platform.beat import cron
from tasks import note

schedule = [
    cron("0 4 1 1 *", note, name="yearly", args=["happy"], timezone="Europe/Berlin"),
    cron("* * * * * *", note, name="steady", args=["tick"], overlap="allow_all"),
]
"""


@pytest.fixture
def broker(request):
    """
    Where calls wait, when it is not the state store.
    """
    return request.getfixturevalue("amqp_url") if getattr(request, "param", "") == "rabbitmq" else None


@pytest.fixture
def deployment(tmp_path, redis_url, broker):
    settings = {"PLATFORM_BROKER_URL": broker or redis_url, "PLATFORM_STATE_URL": redis_url}
    deployment = Deployment(tmp_path, **settings, LEDGER=str(tmp_path / "ledger"))
    (tmp_path / "ledger").touch()
    deployment.write("tasks/__init__.py", TASKS)
    deployment.write("beat/__init__.py", BEAT)
    yield deployment
    deployment.stop()


def answer(deployment, *words):
    done = deployment.celery("schedule", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"], indirect=True)
def test_an_operator_sees_and_steers_the_schedules(deployment, tmp_path):
    fresh = {entry["name"]: entry for entry in answer(deployment, "list")}
    assert set(fresh) == {"yearly", "steady"}
    assert {"name", "task", "next", "last", "overlap", "paused"} <= set(fresh["yearly"])
    local = [line["local"] for line in answer(deployment, "next", "yearly", "-n", "2")]
    assert [moment[4:] for moment in local] == ["-01-01T04:00:00+01:00"] * 2

    deployment.worker("-c", "1", "-P", "threads")
    beat = Program(
        [CELERY, "-A", "platform", "beat"], log=tmp_path / "beat.log", env=deployment.environment, cwd=tmp_path
    ).start()
    try:
        wait_until(lambda: (tmp_path / "ledger").read_text().count("tick") > 2, timeout=60, what="the first runs")
        assert deployment.celery("schedule", "pause", "steady", "--reason", "lunch").returncode == 0
        asked = answer(deployment, "run", "yearly")
        filled = answer(
            deployment, "backfill", "yearly", "--from", "2020-01-01T00:00:00Z", "--to", "2022-12-31T00:00:00Z"
        )
        assert len(filled["nominal"]) == 3
        wait_until(lambda: (tmp_path / "ledger").read_text().count("happy") == 4, timeout=60, what="the asked runs")
        paused = next(entry for entry in answer(deployment, "list") if entry["name"] == "steady")
        assert (paused["paused"], paused["paused_reason"]) == (True, "lunch")

        def outcomes():
            told = answer(deployment, "history", "yearly")
            return {line["call_id"]: line for line in told if line["state"] == "succeeded"}

        told = wait_until(lambda: (found := outcomes()) and len(found) == 4 and found, timeout=60, what="outcomes")
        assert told[asked["call_id"]]["kind"] == "manual"
        assert all(line["lag"] is not None for line in told.values())
        assert deployment.celery("schedule", "resume", "steady").returncode == 0
        assert deployment.celery("schedule", "resume", "steady").returncode == 1
    finally:
        beat.stop()


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ('cron("0 0 31 2 *", note, args=["x"])', "never comes"),
        ('cron("0 0 * * *", note, args=["x"], timezone="Europe/Berlim")', "Did you mean 'Europe/Berlin'"),
        ('cron("0 0 * * *", "tasks.nota", args=["x"])', "Did you mean 'tasks.note'"),
        ('cron("0 0 * * *", note)', "missing 'word'"),
        ('cron("0 0 * * *", "tasks.note", kwargs={"wort": "x"})', "Did you mean 'word'"),
        ('cron("0 0 * * *", note, args=["x"]), cron("1 0 * * *", note, args=["x"])', "2 entries are named"),
        (
            (
                'cron("0 0 * * *", note, name="a", args=["x"], after=["b"]),'
                'cron("0 0 * * *", note, name="b", args=["x"], after=["a"])'
            ),
            "wait for each other",
        ),
    ],
)
def test_lint_and_beat_refuse_a_schedule_that_cannot_work(deployment, schedule, told):
    deployment.write(
        "beat/__init__.py",
        f"from celery_platform.beat import cron\nfrom tasks import note\nschedule = [{schedule}]\n",
    )
    lint = deployment.celery("schedule", "lint", "--json")
    assert lint.returncode == 1, lint.stdout + lint.stderr
    assert told in json.loads(lint.stdout)["problems"][0]
    beat = deployment.celery("beat", timeout=60)
    assert beat.returncode != 0
    assert told in beat.stdout + beat.stderr
