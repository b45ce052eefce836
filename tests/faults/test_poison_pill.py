"""
A call that hurts its process ends as one dead letter, and its neighbours run once, on both brokers.
"""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from tests.integration.hostile_team import hostile_team
from tests.servers.redis import DATABASES
from tests.waiting import wait_until

PATIENCE = 60
NEIGHBOURS = 10
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_numbers = itertools.count(1)


@pytest.fixture
def state_url(redis_server):
    number = DATABASES - 100 - next(_numbers)
    with redis_server.client(number) as client:
        client.flushdb()
    return redis_server.url(number)


@pytest.fixture
def team(broker_url, state_url, tmp_path):
    with hostile_team(tmp_path, broker_url, state_url) as one:
        yield one


def neighbours_of(team, bad):
    """
    Call five neighbours, the bad call, and five more.
    """
    half = NEIGHBOURS // 2
    calls = [team.tasks.neighbour.delay(number) for number in range(half)]
    call = bad()
    calls += [team.tasks.neighbour.delay(number) for number in range(half, NEIGHBOURS)]
    return call, calls


def assert_all_ran_once(team, calls):
    assert [call.get(timeout=PATIENCE) for call in calls] == list(range(NEIGHBOURS))
    ran = Counter(line for line in team.notes() if line.startswith("neighbour"))
    assert set(ran.values()) == {1}, ran
    assert len(ran) == NEIGHBOURS


@pytest.mark.parametrize("queue", ["default", "celery"])
def test_a_call_that_kills_its_process_each_time_ends_as_one_dead_letter(team, queue):
    worker = team.deployment.worker("-c", "2")
    call, calls = neighbours_of(team, lambda: team.tasks.pill.apply_async(("x",), queue=queue))
    letter = team.letter(call.id)
    assert (letter.reason, letter.task) == ("poison", "hostile.pill")
    assert_all_ran_once(team, calls)
    assert team.notes().count("pill x") == 3
    with pytest.raises(Exception, match=r"died|without an outcome"):
        call.get(timeout=PATIENCE)
    assert len(team.letters()) == 1
    assert worker.alive


def test_a_call_whose_workers_all_die_ends_as_one_dead_letter(team):
    """
    The whole worker dies here, so that only the broker and the transport can count.
    """
    call = team.tasks.pill.delay("y")
    for _ in range(6):
        before = team.notes().count("pill y")
        worker = team.deployment.worker("-c", "1", "-P", "solo", wait=False, environment={"PLATFORM_LEASE": "1"})
        wait_until(lambda w=worker: not w.alive or team.letters(), timeout=PATIENCE, what="the worker's end")
        if team.letters():
            break
        assert team.notes().count("pill y") == before + 1
    assert team.letter(call.id).reason == "poison"
    assert 3 <= team.notes().count("pill y") <= 4
    assert len(team.letters()) == 1


@pytest.mark.parametrize(("name", "reason"), [("glutton", "oom"), ("quitter", "exhausted"), ("endless", "timeout")])
def test_a_call_that_would_end_or_hang_its_worker_is_one_failed_attempt(team, name, reason):
    worker = team.deployment.worker("-c", "2")
    call, calls = neighbours_of(team, lambda: getattr(team.tasks, name).delay("z"))
    assert team.letter(call.id).reason == reason
    assert_all_ran_once(team, calls)
    wait_until(lambda: call.state == "FAILURE", timeout=PATIENCE, what="the call's result")
    assert team.notes().count(f"{name} z") == 1
    assert len(team.letters()) == 1
    assert worker.alive
