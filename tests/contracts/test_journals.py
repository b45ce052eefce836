"""
What every store of lines does, in memory and on Redis, and the audit log on top of it.
"""

from __future__ import annotations

import pytest

from celery_platform.audit import LINES, Action, AuditLog
from celery_platform.clock import SYSTEM
from celery_platform.stores.keys import Keys
from celery_platform.stores.memory import MemoryJournal
from celery_platform.stores.redis import RedisStore


@pytest.fixture(params=["memory", "redis"])
def journal(request):
    """
    An empty journal.
    """
    if request.param == "memory":
        yield MemoryJournal()
        return
    store = RedisStore(request.getfixturevalue("redis_url"), Keys("team-a"))
    yield store
    store.client.close()


def test_lines_come_newest_first_as_they_were_with_their_time(journal):
    for line in (b"one", "Zoë \u0000".encode(), b"three"):
        journal.write(line, keep=100)
    assert [line for _, line in journal.lines(limit=2)] == [b"three", "Zoë \u0000".encode()]
    assert all(abs(at - SYSTEM.now()) < 5 for at, _ in journal.lines(limit=9))
    assert len(journal.lines(limit=9)) == 3


def test_old_lines_are_forgotten(journal):
    for number in range(2_000):
        journal.write(str(number).encode(), keep=100)
    kept = [int(line) for _, line in journal.lines(limit=10_000)]
    # Redis forgets whole blocks of a hundred.
    assert 100 <= len(kept) <= 300
    assert kept[:100] == list(range(1_999, 1_899, -1))


def test_an_action_is_one_entry_with_what_came_of_it(journal):
    log = AuditLog(journal)
    first = log.begin(Action(actor="otto", role="operator", action="queues.pause", target="billing", reason="bank"))
    second = log.begin(Action(actor="otto", role="operator", action="breakers.open", target="bank"))
    log.end(first, "done", before=None, after={"reason": "bank"})
    paused, opened = log.newest()
    assert (paused.action, paused.outcome, paused.after) == ("queues.pause", "done", {"reason": "bank"})
    assert (paused.actor, paused.reason, paused.request) == ("otto", "bank", first.request)
    # The console died in between: what was begun stays visible.
    assert (opened.action, opened.outcome, opened.request) == ("breakers.open", "asked", second.request)
    assert len(log.newest(1)) == 1
    assert LINES > 10_000
