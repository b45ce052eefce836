"""
What the schedules keep in Redis: the lease, the claims of copies, the ends of runs.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from celery_platform.beat.lease import RedisLease
from celery_platform.beat.runs import COPY, Outcomes, ended, may_run
from celery_platform.clock import FrozenClock
from celery_platform.headers import SCHEDULED_FOR
from celery_platform.stores.keys import Keys
from celery_platform.stores.redis import RedisStore
from tests.waiting import wait_until

KEYS = Keys("trial")


@pytest.fixture
def store(redis_url):
    store = RedisStore(redis_url, KEYS)
    yield store
    store.client.close()


def request(call_id="c1", **headers):
    return SimpleNamespace(id=call_id, headers=headers)


def test_one_leads_and_another_follows_when_the_lease_has_run_out(store):
    first, second = (RedisLease(store.client, KEYS, ttl=0.5) for _ in range(2))
    assert (first.acquire(0), second.acquire(0)) == (1, 0)
    assert store.client.pttl(KEYS.beat_lease) <= 500
    assert wait_until(lambda: second.acquire(0), timeout=5, what="the lease to run out") == 2


def test_a_lease_that_was_given_up_is_free_at_once_and_one_of_another_is_not_touched(store):
    first, second = (RedisLease(store.client, KEYS) for _ in range(2))
    first.acquire(0)
    second.release()
    assert second.acquire(0) == 0
    first.release()
    assert second.acquire(0) == 2


def test_the_fence_counts_on_from_the_database_when_the_store_has_lost_its_memory(store):
    assert RedisLease(store.client, KEYS).acquire(41) == 42


def test_a_leader_that_was_stopped_knows_by_its_own_clock_that_its_lease_is_not_sure(store):
    clock = FrozenClock()
    lease = RedisLease(store.client, KEYS, clock)
    lease.acquire(0)
    assert lease.sure
    clock.advance(5.1)
    assert not lease.sure


def test_of_two_copies_of_a_firing_the_first_runs_and_runs_again_when_it_is_redelivered(store):
    first, second = request(**{COPY: "one"}), request(**{COPY: "two"})
    assert may_run(store, first)
    assert not may_run(store, second)
    assert may_run(store, first)
    assert 0 < store.client.pttl(KEYS.beat_claim("c1")) <= 7 * 86_400_000


def test_a_call_that_is_no_firing_costs_nothing(store):
    assert may_run(store, request())
    ended(store, request(), "succeeded")
    assert store.client.dbsize() == 0


def test_the_end_of_a_scheduled_run_waits_for_the_scheduler_with_a_lifetime(store):
    ended(store, request(**{SCHEDULED_FOR: "2026-01-01T00:00:00+00:00"}), "failed")
    outcomes = Outcomes(store.client, KEYS)
    assert outcomes.read() == {"c1": "failed"}
    assert 0 < store.client.ttl(KEYS.beat_outcomes) <= 7 * 86_400
    outcomes.forget(["c1"])
    assert outcomes.read() == {}
