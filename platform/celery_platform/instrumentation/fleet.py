"""
Read what no single worker knows: queues, delayed calls, leases, dead letters, pauses.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from celery_platform.transport.depths import depths_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_platform.celery_app import Platform
    from celery_platform.instrumentation.exposition import Reading
    from celery_platform.transport.depths import Backlog

__all__ = ["Fleet"]

_FRESH = 1.0  # seconds for which a reading is given out again, however many servers scrape


class Fleet:
    """
    The readings of one deployment; a part that cannot be read is missing, and `celery_platform_exporter_up` says so.

    The number of commands grows with the number of queues and of workers, not with what waits. *troubled* is told of
    each part whether it could be read.
    """

    def __init__(self, platform: Platform, troubled: Callable[[str, str], None]) -> None:
        self._platform = platform
        self._troubled = troubled
        self._depths = depths_of(platform.app)
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._last: list[Reading] = []

    def readings(self) -> list[Reading]:
        """
        Return every reading, at most a second old.
        """
        with self._lock:
            started = time.monotonic()
            if started - self._read_at >= _FRESH:
                self._last = [*self._part("the broker", self._broker), *self._part("the state store", self._store)]
                self._read_at = time.monotonic()
                self._last.append((("celery_platform_exporter_seconds",), [self._read_at - started]))
            return self._last

    def _part(self, name: str, read: Callable[[], Iterator[Reading]]) -> list[Reading]:
        try:
            found = list(read())
        except Exception as error:  # noqa: BLE001 - a server that is away raises anything; the others are read all the same
            self._troubled(name, f"{type(error).__name__}: {error}"[:500])
            return [(("celery_platform_exporter_up", name), [0.0])]
        self._troubled(name, "")
        return [*found, (("celery_platform_exporter_up", name), [1.0])]

    def _broker(self) -> Iterator[Reading]:
        backlog = self._depths.read(self._platform.router.queues)
        for queue in backlog.queues:
            yield ("celery_queue_length", queue.name), [float(queue.depth)]
            if queue.oldest is not None:
                yield ("platform_queue_oldest_age_seconds", queue.name), [queue.oldest]
            if queue.consumers is not None:
                yield ("celery_active_consumer_count", queue.name), [float(queue.consumers)]
        yield from _beside(backlog)

    def _store(self) -> Iterator[Reading]:
        pauses = self._platform.guards.pauses()
        for name in self._platform.router.queues:
            yield ("platform_queue_paused", name), [float(f"queue:{name}" in pauses)]
        yield ("celery_platform_paused_subjects",), [float(len(pauses))]
        yield ("celery_platform_dead_groups",), [float(len(self._platform.dead_letters.groups(limit=1000)))]
        yield ("celery_platform_dead_letters",), [float(self._platform.dead_letters.count())]


def _beside(backlog: Backlog) -> Iterator[Reading]:
    figures = {
        "celery_platform_delayed_calls": backlog.delayed,
        "celery_platform_delayed_overdue_seconds": backlog.overdue,
        "celery_platform_leased_calls": backlog.leased,
        "celery_platform_lease_holders": backlog.holders,
        "celery_platform_lapsed_leases": backlog.lapsed,
        "celery_platform_casualties": backlog.casualties,
    }
    for name, value in figures.items():
        if value is not None:
            yield (name,), [float(value)]
