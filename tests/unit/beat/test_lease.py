"""
The lease in memory behaves as a lease.
"""

from __future__ import annotations

from celery_platform.beat.lease import LocalLease
from celery_platform.clock import FrozenClock


def test_one_leads_and_the_fence_grows_with_every_change():
    clock = FrozenClock()
    first = LocalLease(clock)
    second = first.rival()
    assert (first.acquire(0), second.acquire(0)) == (1, 0)
    clock.advance(first.ttl - 0.01)
    assert second.acquire(0) == 0
    clock.advance(0.02)
    assert not first.sure
    assert second.acquire(0) == 2
    assert first.acquire(0) == 0


def test_a_lease_given_up_is_free_at_once_and_counts_on_from_the_floor():
    first = LocalLease(FrozenClock())
    first.acquire(0)
    first.release()
    assert first.rival().acquire(41) == 42
