"""
A world for schedulers: real tables, a clock that stands still, and workers that run what arrives once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from celery_platform.beat.engine import Engine
from celery_platform.beat.lease import LocalLease
from celery_platform.clock import FrozenClock
from celery_platform.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_platform.beat.entries import Entry
    from celery_platform.beat.ledger import Held


def use_database(url: str) -> None:
    """
    Point Django at *url*, whatever it used before, and bring its tables up to date.
    """
    from celery_platform.beat.site.configuration import configure, database, migrate

    settings = Settings.load(database_url=url)
    configure(settings)
    from django.db import connections

    connections.close_all()
    if hasattr(connections._connections, "default"):
        del connections["default"]
    connections.settings["default"] = connections.configure_settings({"default": database(settings)})["default"]
    migrate()


class Workers:
    """The far side of the broker: takes copies of firings, runs the first of each, and tells how runs end."""

    def __init__(self) -> None:
        self.copies: list[str] = []
        self.started: list[tuple[str, datetime]] = []
        self.stopped: list[tuple[str, bool]] = []
        self.ends: dict[str, str] = {}
        self.before_send: Callable[[Held], None] = lambda _: None
        self.after_send: Callable[[Held], None] = lambda _: None
        #: What becomes of a run at once; nothing leaves it running.
        self.result: Callable[[Held], str | None] = lambda _: "succeeded"

    def send(self, _: object, firing: Held) -> None:
        self.before_send(firing)
        if firing.call_id not in self.copies:
            self.started.append((firing.entry, firing.nominal))
            if (state := self.result(firing)) is not None:
                self.ends[firing.call_id] = state
        self.copies.append(firing.call_id)
        self.after_send(firing)

    def stop(self, call_id: str, *, force: bool) -> None:
        self.stopped.append((call_id, force))

    def read(self) -> dict[str, str]:
        return dict(self.ends)

    def forget(self, call_ids: Sequence[str]) -> None:
        for call_id in list(call_ids):
            self.ends.pop(call_id, None)


class World:
    """One database, one lease, one clock; any number of schedulers."""

    def __init__(self, start: datetime = datetime(2026, 3, 2, 11, 59, 30, tzinfo=UTC)) -> None:
        self.clock = FrozenClock(start.timestamp())
        self.workers = Workers()
        self._lease = LocalLease(self.clock)

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now(), UTC)

    def scheduler(self, schedule: Sequence[Entry] = ()) -> Engine:
        return Engine(self._lease.rival(), self.workers, self.workers, schedule=schedule, clock=self.clock)

    def lease_lasts(self, duration: float) -> None:
        """
        Let the lease last *duration* seconds longer, as if it were renewed meanwhile.
        """
        self._lease.throne.until = self.clock.monotonic() + duration + self._lease.ttl

    def run(self, engine: Engine, duration: timedelta, step: float = 1.0) -> None:
        """
        Let *engine* tick every *step* seconds for *duration*.
        """
        end = self.clock.now() + duration.total_seconds()
        while self.clock.now() < end:
            self.clock.advance(min(step, end - self.clock.now()))
            engine.tick()

    def minutes(self, entry: str) -> list[int]:
        """
        Return the minutes past noon for which *entry* was run.
        """
        noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
        return [round((nominal - noon).total_seconds() / 60) for name, nominal in self.workers.started if name == entry]


def states(entry: str) -> list[str]:
    """
    Return the states of the firings of *entry*, by nominal time.
    """
    from celery_platform.beat.site.models import Firing

    return list(Firing.objects.filter(entry=entry).order_by("nominal").values_list("state", flat=True))
