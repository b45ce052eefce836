"""
Check-ins of scheduled runs, as Sentry receives them.
"""

from __future__ import annotations

import gzip
import json

import pytest
import sentry_sdk

from celery_platform import events
from celery_platform.beat import cron, every, monitors
from celery_platform.beat.book import Book, Live
from celery_platform.events import FiringEnded, FiringSent
from tests.waiting import wait_until

NOMINAL = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def book():
    before = events._hooks
    book = Book()
    for entry in (
        cron("0 2 * * *", "tasks.x", name="Nightly Backup", timezone="Europe/Berlin"),
        every("tasks.x", seconds=1, name="steady"),
    ):
        book.by_name[entry.name] = Live(entry, None, ())
    yield book
    events._hooks = before
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


def check_ins(server):
    found = []
    for request in server.requests:
        body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        found += [json.loads(line) for line in body.splitlines() if b"monitor_slug" in line]
    return found


def test_a_firing_checks_in_when_it_is_sent_and_when_it_has_ended(http_server, book):
    monitors.install(f"http://key@127.0.0.1:{http_server.port}/1", book)
    for state, call_id in (("succeeded", "a" * 32), ("failed", "b" * 32)):
        events.emit(FiringSent(call_id=call_id, entry="Nightly Backup", nominal=NOMINAL, lag=0.1))
        events.emit(FiringEnded(call_id=call_id, entry="Nightly Backup", nominal=NOMINAL, state=state))
    events.emit(FiringSent(call_id="c" * 32, entry="steady", nominal=NOMINAL, lag=0.1))
    sentry_sdk.flush(10)
    told = wait_until(lambda: (found := check_ins(http_server)) and len(found) >= 4 and found, what="check-ins")
    assert [(line["check_in_id"][0], line["status"]) for line in told] == [
        ("a", "in_progress"),
        ("a", "ok"),
        ("b", "in_progress"),
        ("b", "error"),
    ]
    assert {line["monitor_slug"] for line in told} == {"nightly-backup"}
    config = told[0]["monitor_config"]
    assert config["schedule"] == {"type": "crontab", "value": "0 2 * * *"}
    assert config["timezone"] == "Europe/Berlin"
