"""
Do what is not urgent: alarms, pauses after failures, runs nobody reported on, old history, the schedule in code.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from celery_platform import events
from celery_platform.beat.book import deadline_after
from celery_platform.beat.ledger import Ledger, write_plans
from celery_platform.beat.reconcile import alive, digest_of, newest, reconcile
from celery_platform.events import EntryOverdue, EntryPaused

if TYPE_CHECKING:
    from datetime import datetime

    from celery_platform.beat.book import Live
    from celery_platform.beat.engine import Engine
    from celery_platform.beat.ledger import Held

__all__ = ["KEEP", "Keeper"]

logger = logging.getLogger("celery_platform.beat.housekeeping")

#: How long ended firings stay in the history.
KEEP = timedelta(days=30)
# A run that nobody has reported on for this long no longer holds its entry back.
_LOST = timedelta(days=1)
_QUIET = timedelta(seconds=10)
_ROUND = timedelta(seconds=5)
_SIGN_OF_LIFE = timedelta(seconds=30)
_CLEAN = timedelta(minutes=10)
_MOST_PROBES = 20


class Keeper:
    """The quiet half of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._at: dict[str, datetime] = {}
        self._asked: dict[str, int] = {}
        self._rounds = 0
        self._digest = digest_of(engine.schedule)

    def _time_for(self, what: str, now: datetime, every: timedelta) -> bool:
        if now < self._at.get(what, now):
            return False
        self._at[what] = now + every
        return True

    def reconcile(self, now: datetime) -> None:
        """
        Write the schedule in code into the tables, unless a newer version runs elsewhere.
        """
        if newest(self._digest, now):
            reconcile(self._engine.schedule, now)
        else:
            logger.warning("A newer version of the schedule runs elsewhere: this one is not written.")

    def keep(self, now: datetime) -> None:
        """
        Do whatever has come up.
        """
        if self._time_for("alarms", now, timedelta(seconds=1)):
            self._raise_alarms(now)
        if self._time_for("probe", now, _ROUND):
            self._probe(now)
        if self._time_for("life", now, _SIGN_OF_LIFE):
            alive(self._digest, now)
        if self._time_for("clean", now, _CLEAN) and (ledger := self._engine.ledger):
            ledger.prune(now - KEEP)

    def count(self, live: Live, held: Held, now: datetime) -> None:
        """
        Count the end of a run for *live*, and pause it after too many failures in a row.
        """
        plan, limit = live.plan, live.entry.rules.pause_on_failure
        failures = plan.failures + 1 if held.state in ("failed", "lost") else 0
        if failures == plan.failures:
            return
        plan.failures = failures
        if limit is not None and failures >= limit and plan.paused_at is None:
            plan.paused_at, plan.paused_until = now, None
            plan.paused_reason = f"{failures} runs failed in a row"
            logger.error("%s is paused: %s.", held.entry, plan.paused_reason)
            events.emit(EntryPaused(entry=held.entry, task=live.entry.task, reason=plan.paused_reason))
        if self._engine.ledger is not None:
            self._engine.ledger.note_failures(plan)

    def _raise_alarms(self, now: datetime) -> None:
        for live in self._engine.book.watched:
            deadline = live.plan.alarm_at
            if deadline is None or deadline > now or self._engine.ledger is None:
                continue
            live.plan.alarm_at = deadline_after(live.entry, now)
            with self._engine.ledger.writing():
                write_plans([live.plan])
            begin = deadline - timedelta(days=1)
            first = live.entry.after(begin)
            wanted = first is not None and first <= deadline
            if wanted and not live.paused(deadline) and not Ledger.succeeded_between(live.entry.name, begin, deadline):
                logger.error("%s has not succeeded by %s.", live.entry.name, deadline.isoformat())
                events.emit(EntryOverdue(entry=live.entry.name, task=live.entry.task, deadline=deadline.isoformat()))

    def _probe(self, now: datetime) -> None:
        quiet = [held for held in self._engine.progress.sent() if held.sent_at and now - held.sent_at > _QUIET]
        # Those asked longest ago first; the memory holds no run that has ended.
        self._asked = {held.call_id: self._asked.get(held.call_id, 0) for held in quiet}
        chosen = sorted(self._asked, key=self._asked.__getitem__)[:_MOST_PROBES]
        self._rounds += 1
        self._asked |= dict.fromkeys(chosen, self._rounds)
        ends = {call_id: state for call_id in chosen if (state := self._engine.probe(call_id))}
        ends |= {held.call_id: "lost" for held in quiet if held.sent_at and now - held.sent_at > _LOST}
        self._engine.take_ends(ends, now)
