"""
Dead letters of several kinds, made by real workers, are grouped, replayed once each, and the replay survives SIGKILL.

`N` is how many calls die (`make faults N=10000` is the long form); by default as many as prove the promise.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter

import pytest

from celery_platform.celery_app import current_platform
from tests.deployment import CELERY
from tests.integration.hostile_team import hostile_team
from tests.servers import Program
from tests.servers.redis import DATABASES
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NUMBER = int(os.environ.get("N", "210"))
RATE = 50
PATIENCE = 60 + NUMBER / 20
KINDS = 7


@pytest.fixture
def team(broker_url, redis_server, tmp_path):
    number = DATABASES - 300 - broker_url.startswith("amqp")
    with redis_server.client(number) as client:
        client.flushdb()
    cure = str(tmp_path / "cure")
    with hostile_team(tmp_path, broker_url, redis_server.url(number), "mortal", CURE=cure) as one:
        one.cure = tmp_path / "cure"
        one.worker = one.deployment.worker("-c", "2")
        yield one


def die(team, number):
    """
    Call *number* tasks, that die in seven ways.
    """
    from celery_platform import Secret

    tasks = team.tasks
    for one in range(number // KINDS):
        tasks.plain.delay(one)
        tasks.tried.delay(one)
        tasks.given_up.delay(one)
        tasks.other_place.delay(one)
        tasks.quiet.delay(one, Secret("tulip-4711"))
        team.app.send_task("mortal.plain", ([one],))  # breaks the annotation: nothing will cure it
        tasks.once.delay(one)


def deaths(team):
    return current_platform().dead_letters.count()


def done(team):
    return [line for line in team.notes() if not line.startswith(("own hook", "any hook"))]


def test_what_died_in_seven_ways_is_grouped_and_replayed_once_each_through_a_sigkill(team):
    letters = current_platform().dead_letters
    each = NUMBER // KINDS
    die(team, NUMBER)
    wait_until(lambda: deaths(team) == each * KINDS, timeout=PATIENCE, what="all calls to die", every=0.2)

    started = time.monotonic()
    groups = letters.groups()
    took = time.monotonic() - started
    assert took <= 1.0
    assert sorted(row.count for row in groups) == [each] * KINDS
    assert Counter(row.reason for row in groups) == {"exhausted": 5, "rejected": 1, "invalid": 1}
    listed = team.deployment.celery("dead", "groups", "--json")
    assert {row["group"] for row in json.loads(listed.stdout)} == {row.group for row in groups}
    assert "tulip-4711" not in listed.stdout

    # Nothing is cured: the canary stops it.
    curable = [row for row in groups if row.reason != "invalid"]
    stopped = team.deployment.celery(
        "dead", "replay", "--group", curable[0].group, "--canary", "10", "--stop-if-fail", "20%", "--json",
        "--because", "try", timeout=120,
    )  # fmt: skip
    report = json.loads(stopped.stdout)
    assert (stopped.returncode, report["state"], report["sent"]) == (1, "stopped", 10)
    assert report["canary_failed"] >= 2
    wait_until(lambda: deaths(team) == each * KINDS, timeout=PATIENCE, what="the canary to die again", every=0.2)

    team.cure.touch()
    words = [
        "dead",
        "replay",
        "--rate",
        f"{RATE}/s",
        "--canary",
        "10",
        "--actor",
        "ops",
        "--because",
        "fixed",
        "--json",
    ]
    argv = [CELERY, "-A", "platform", *words]
    log = team.deployment.folder / "replay.log"
    runs = Program(argv, log=log, env=team.deployment.environment, cwd=team.deployment.folder).start()
    left = each * (KINDS - 1) // 2 + each
    wait_until(lambda: deaths(team) <= left, timeout=PATIENCE, what="half of them to be sent", every=0.02)
    runs.kill9()
    before, at = deaths(team), time.monotonic()
    assert before > each
    resumed = team.deployment.celery(*words, timeout=PATIENCE)
    elapsed = time.monotonic() - at
    report = json.loads(resumed.stdout)
    assert (resumed.returncode, report["state"]) == (0, "done"), resumed.stderr
    assert elapsed >= report["sent"] / RATE * 0.95 - 1

    expected = [
        f"{name} {one}" for name in ("plain", "given_up", "other_place", "quiet", "once") for one in range(each)
    ]
    expected += [f"tried {one} a" for one in range(each)]
    wait_until(lambda: len(done(team)) >= len(expected), timeout=PATIENCE, what="every call to succeed", every=0.2)
    again = json.loads(team.deployment.celery(*words, "--group", curable[0].group).stdout)
    assert again["sent"] == 0
    assert Counter(done(team)) == Counter(expected)
    wait_until(lambda: deaths(team) == each, timeout=PATIENCE, what="those that break the contract to die again")
    assert {letter.reason for letter in letters.list(limit=each)} == {"invalid"}
    assert [line["action"] for line in letters.audit(3)].count("replay") == 3
    assert {line["actor"] for line in letters.audit(2)} == {"ops"}
