"""
Lead the schedules: claim what is due, send it, follow each run to its end.

One tick is: hold the lease, take in what happened, claim, release what waited, send. A firing is claimed together with
the next time of its entry before it is sent, so that a crash loses none; what a crash left unsent is sent by the next
leader under the same call id, and a worker runs only the first copy.
"""

from __future__ import annotations

import gc
import logging
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from celery_platform import events
from celery_platform.beat import housekeeping
from celery_platform.beat.book import Book, Live
from celery_platform.beat.firing import claims_of
from celery_platform.beat.ledger import Deposed, Held, Ledger
from celery_platform.beat.progress import Progress
from celery_platform.clock import SYSTEM
from celery_platform.errors import ConfigurationError, PayloadError, PolicyError
from celery_platform.events import FiringEnded, FiringSent, FiringsMissed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from celery_platform.beat.entries import Entry
    from celery_platform.beat.lease import Lease
    from celery_platform.clock import Clock

__all__ = ["Ends", "Engine", "Publisher"]

logger = logging.getLogger("celery_platform.beat")

_STANDBY = 1.0
# How often the tables are asked for edits and requests, in seconds.
_LOOK = 0.5
_RETRY = timedelta(seconds=1)
_MOST_ENTRIES = 500
_MOST_SENDS = 200


@contextmanager
def _no_collector() -> Iterator[None]:
    # Ten thousand rows make a million objects that all stay: the collector would walk through them again and again.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Publisher(Protocol):
    """What brings a firing to the broker."""

    def send(self, live: Live, firing: Held) -> None:
        """
        Publish *firing*; a `ConfigurationError` or `PayloadError` refuses it for good, any other error is tried again.
        """

    def stop(self, call_id: str, *, force: bool) -> None:
        """
        Ask the run of *call_id* to stop, or kill it.
        """


class Ends(Protocol):
    """Where the ends of runs arrive."""

    def read(self) -> Mapping[str, str]:
        """
        Return ends by call id.
        """

    def forget(self, call_ids: Iterable[str]) -> None:
        """
        Drop ends that were taken in.
        """


class Engine:
    """
    One scheduler among any number.

    *schedule* is the schedule in code; *probe* asks the result store how a call ended, for runs whose worker could not
    say so itself.
    """

    def __init__(
        self,
        lease: Lease,
        publisher: Publisher,
        ends: Ends,
        *,
        schedule: Sequence[Entry] = (),
        probe: Callable[[str], str | None] = lambda _: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.lease, self.publisher, self.ends = lease, publisher, ends
        self.schedule, self.probe, self.clock = schedule, probe, clock
        self.book = Book()
        self.progress = Progress()
        self.ledger: Ledger | None = None
        self._changed_at: Any = None
        self._look_at = self._retry_at = datetime.min.replace(tzinfo=UTC)
        self._keeper = housekeeping.Keeper(self)

    def now(self) -> datetime:
        """
        Return the present moment in UTC.
        """
        return datetime.fromtimestamp(self.clock.now(), UTC)

    def tick(self) -> float:
        """
        Do what is due now and return how many seconds there is nothing to do.

        Raises what the database or the store raises; nothing is lost then, and the next tick begins from the tables.
        """
        fence = self.lease.acquire(0 if self.ledger else Ledger.floor())
        if not fence:
            self._step_down("another scheduler leads")
            return _STANDBY
        try:
            if self.ledger is None or self.ledger.fence != fence:
                self._take_over(fence)
            return self._lead()
        except Deposed:
            self._step_down("another scheduler took over")
            return _STANDBY
        except BaseException:
            # What is in memory may no longer be what is in the tables.
            self.ledger = None
            raise

    def _take_over(self, fence: int) -> None:
        ledger = Ledger(fence)
        ledger.enthrone()
        now = self.now()
        with _no_collector():
            self._keeper.reconcile(now)
            self._changed_at = self._last_change()
            self.book.load(ledger, now)
        self.progress = Progress(ledger.open_firings())
        self.ledger = ledger
        logger.info("This scheduler leads now (fence %d, %d entries).", fence, len(self.book.by_name))

    def _step_down(self, reason: str) -> None:
        if self.ledger is not None:
            logger.warning("This scheduler stands by: %s.", reason)
        self.ledger = None

    @property
    def _leading(self) -> Ledger:
        if self.ledger is None:
            raise Deposed("This scheduler does not lead.")
        return self.ledger

    def _lead(self) -> float:
        now = self.now()
        if now >= self._look_at:
            self._look_at = now + timedelta(seconds=_LOOK)
            self._look(now)
        self.take_ends(self.ends.read(), now)
        self._claim_due(now)
        self._advance(now)
        self._send()
        self._keeper.keep(now)
        return self._idle()

    def _look(self, now: datetime) -> None:
        changed = self._last_change()
        if changed != self._changed_at:
            self._changed_at = changed
            with _no_collector():
                self.book.load(self._leading, now)
        requested = self.progress.unknown(Ledger.requested())
        for held in requested:
            held.state = "queued" if held.lane else "due"
        self._leading.move(requested, now)
        self.progress.add(requested)

    @staticmethod
    def _last_change() -> Any:
        from django_celery_beat.models import PeriodicTasks

        return PeriodicTasks.last_change()

    def _claim_due(self, now: datetime) -> None:
        claimed: list[Held] = []
        touched: list[Live] = []
        missed: list[FiringsMissed] = []
        for live in self.book.due(now, _MOST_ENTRIES):
            firings, given_up = claims_of(live, now, self.progress)
            claimed += firings
            touched.append(live)
            if given_up:
                missed.append(FiringsMissed(entry=live.entry.name, task=live.entry.task, count=given_up))
        if not touched:
            return
        new = self._leading.claim(claimed, [live.plan for live in touched], now)
        lost = {held.call_id for held in claimed} - {held.call_id for held in new}
        self.progress.remove(lost)
        self._stop_others(now)
        for live in touched:
            self.book.put(live)
        for event in missed:
            logger.warning("%s: %d firings were missed and are not made up for.", event.entry, event.count)
            events.emit(event)
        self._tell_ended([held for held in new if held.state in ("skipped", "missed")])

    def _stop_others(self, now: datetime) -> None:
        stops, given_way = self.progress.take_stops()
        if not stops and not given_way:
            return
        self._leading.move(given_way, now)
        for call_id, force in stops:
            try:
                self.publisher.stop(call_id, force=force)
            except Exception as error:  # noqa: BLE001 - a broker that is away raises anything
                logger.warning("The run %s could not be told to stop: %s", call_id, error)
        self._tell_ended(given_way)

    def _advance(self, now: datetime) -> None:
        moved = self.progress.release(self.book.by_name, now)
        self._leading.move(moved, now)
        self.progress.settle(moved)
        self._stop_others(now)
        self._tell_ended([held for held in moved if held.state == "skipped"])

    def _send(self) -> None:
        now = self.now()
        if now < self._retry_at:
            return
        sent: list[Held] = []
        refused: list[Held] = []
        for held in self.progress.due(_MOST_SENDS):
            if not self.lease.sure:
                break
            try:
                self._send_one(held)
            except (ConfigurationError, PayloadError, PolicyError) as error:
                logger.error("%s at %s was refused: %s", held.entry, held.nominal.isoformat(), error)  # noqa: TRY400
                held.state, held.note = "failed", str(error)[:500]
                refused.append(held)
                continue
            except Exception as error:  # noqa: BLE001 - a broker that is away raises anything; the claim stays
                logger.warning("%s could not be sent and is tried again: %s", held.entry, error)
                self._retry_at = now + _RETRY
                break
            held.state, held.sent_at = "sent", self.now()
            sent.append(held)
        self._leading.sent(sent)
        self.progress.settle(sent)
        self._end(refused, self.now())
        for held in sent:
            if events.listening() and held.sent_at is not None:
                lag = (held.sent_at - held.nominal).total_seconds()
                nominal = held.nominal.isoformat()
                events.emit(FiringSent(call_id=held.call_id, entry=held.entry, nominal=nominal, lag=lag))

    def _send_one(self, held: Held) -> None:
        live = self.book.by_name.get(held.entry)
        if live is None:
            raise ConfigurationError("the entry was disabled or deleted after this firing was claimed.")
        self.publisher.send(live, held)

    def take_ends(self, ends: Mapping[str, str], now: datetime) -> None:
        """
        Take in how runs ended, by call id.
        """
        if not ends:
            return
        ended = self.progress.ended(ends)
        self._end(ended, now)
        self.ends.forget(ends)

    def _end(self, ended: list[Held], now: datetime) -> None:
        """
        Write the ends in the memory of *ended* down, and count failures.
        """
        if not ended:
            return
        self._leading.move(ended, now)
        self.progress.settle(ended)
        for held in ended:
            live = self.book.by_name.get(held.entry)
            if live is not None:
                self._keeper.count(live, held, now)
        self._tell_ended(ended)

    @staticmethod
    def _tell_ended(ended: Sequence[Held]) -> None:
        if events.listening():
            for held in ended:
                nominal = held.nominal.isoformat()
                event = FiringEnded(
                    call_id=held.call_id, entry=held.entry, nominal=nominal, state=held.state, note=held.note
                )
                events.emit(event)

    def _idle(self) -> float:
        """
        Return the seconds until the next entry is due; work that is left over leaves none.
        """
        now = self.now()
        if self.progress.any_due and now >= self._retry_at:
            return 0.0
        due = self.book.next_due
        return _STANDBY if due is None else max(0.0, (due - now).total_seconds())

    def close(self) -> None:
        """
        Give up the leadership, so that the next scheduler need not wait.
        """
        self.ledger = None
        self.lease.release()
