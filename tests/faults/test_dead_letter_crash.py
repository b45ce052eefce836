"""
A process killed between the record of a dead letter and the acknowledgement makes one letter, and loses nothing.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.integration.hostile_team import hostile_team
from tests.servers.redis import DATABASES
from tests.waiting import wait_until

PATIENCE = 90
CALLS = 8
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def team(broker_url, redis_server, tmp_path):
    number = DATABASES - 310 - broker_url.startswith("amqp")
    with redis_server.client(number) as client:
        client.flushdb()
    settings = {"CURE": str(tmp_path / "cure"), "PLATFORM_LEASE": "1"}
    with hostile_team(tmp_path, broker_url, redis_server.url(number), "mortal", **settings) as one:
        yield one


def told(team):
    return Counter(line.removeprefix("any hook ") for line in team.notes() if line.startswith("any hook"))


def test_every_call_killed_behind_its_record_is_one_letter(team):
    team.deployment.worker("-c", "2", environment={"KILL_AT_LETTER": "1"})
    calls = [team.tasks.plain.delay(number) for number in range(CALLS)]
    wait_until(lambda: len(told(team)) == CALLS, timeout=PATIENCE, what="every letter to be written")
    # Each comes back once more, is recognised, and only then acknowledged.
    wait_until(lambda: all(call.state == "FAILURE" for call in calls), timeout=PATIENCE, what="every call to end")
    letters = team.letters()
    assert sorted(letter.id for letter in letters) == sorted(call.id for call in calls)
    assert {letter.reason for letter in letters} == {"exhausted"}
    assert set(told(team).values()) == {1}


def test_a_worker_killed_behind_the_record_of_a_bad_message_leaves_one_letter(team):
    killer = team.deployment.worker("-c", "1", "-P", "solo", environment={"KILL_AT_LETTER": "1"})
    body = json.dumps([["one"], {}])
    headers = {"task": "mortal.plain", "id": "bad-1", "lang": "py"}
    team.publish(body, headers=headers, content_type="application/json", content_encoding="utf-8")
    wait_until(lambda: not killer.alive, timeout=PATIENCE, what="the worker's end")
    assert [letter.id for letter in team.letters()] == ["bad-1"]
    team.deployment.worker("-c", "1")
    after = [team.tasks.plain.delay(number) for number in range(2)]
    wait_until(lambda: len(team.letters()) == 3, timeout=PATIENCE, what="the calls behind it to be run")
    wait_until(lambda: killer_left_nothing(team), timeout=PATIENCE, what="the bad message to be acknowledged")
    assert {letter.id for letter in team.letters()} == {"bad-1", *(call.id for call in after)}
    assert told(team)["bad-1"] == 1


def killer_left_nothing(team):
    with team.app.connection_for_read() as connection, connection.channel() as channel:
        if team.broker.startswith("amqp"):
            return channel.queue_declare("default", passive=True).message_count == 0
        return not channel.client.llen("default") and not channel.client.keys("platform:held:*")
