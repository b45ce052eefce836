"""
Turn an entry that is due into firings: which nominal times, and what each of them does first.
"""

from __future__ import annotations

import logging
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

from celery_platform.beat.ledger import Held
from celery_platform.beat.misfire import GRACE
from celery_platform.beat.overlap import Ruling, ruled

if TYPE_CHECKING:
    from datetime import datetime

    from celery_platform.beat.book import Live
    from celery_platform.beat.entries import Entry
    from celery_platform.beat.progress import Progress

__all__ = ["claims_of", "rule"]

logger = logging.getLogger("celery_platform.beat.firing")

_MOST_MISSED_SHOWN = 100


def claims_of(live: Live, now: datetime, progress: Progress) -> tuple[list[Held], int]:
    """
    Return the firings of *live* at *now*, and how many known ones were given up; its plan moves on to the next time.

    The firings are in *progress* already; the caller writes them and the plan down together.
    """
    nominals, more = _due_times(live, now)
    plan, rules = live.plan, live.entry.rules
    if live.paused(now):
        return [], 0
    nominals = [nominal for nominal in nominals if not live.paused(nominal)]
    fire, missed = rules.missed.chosen(nominals, now, rules.catch_up)
    if rules.max_runs is not None:
        fire = fire[: max(0, rules.max_runs - plan.runs)]
    plan.runs += len(fire)
    if rules.max_runs is not None and plan.runs >= rules.max_runs:
        plan.next_at = None
    shown = missed[-_MOST_MISSED_SHOWN:]
    claims = [Held(live.entry.name, nominal, "missed", note="not made up for") for nominal in shown]
    # Firings claimed together are judged by the runs before them, not by each other: a scheduler that was away for a
    # moment owes every one of them.
    before = progress.running(live.entry.name) if rules.overlap == "skip" else None
    for nominal in fire:
        held = Held(live.entry.name, nominal, "due")
        if rules.after:
            held.state, held.note = "waiting", f"for {', '.join(rules.after)}"
        else:
            rule(live, held, progress, before)
        claims.append(held)
        progress.add([held])
    if more:
        logger.warning("%s: times older than %s are passed over.", live.entry.name, nominals[0].isoformat())
    return claims, len(missed)


def rule(live: Live, held: Held, progress: Progress, before: list[Held] | None = None) -> None:
    """
    Apply the overlap policy of *live* to *held*, against the runs *before* or else all that have not ended.
    """
    running = progress.running(held.entry) if before is None else before
    buffered = progress.buffered(held.entry)
    ruling = ruled(live.entry.rules.overlap, running=len(running), buffered=len(buffered))
    match ruling:
        case Ruling.SEND:
            held.state, held.note = "due", ""
        case Ruling.SKIP:
            held.state, held.note = "skipped", "an earlier run had not ended"
        case Ruling.BUFFER:
            held.state, held.note = "buffered", "until the earlier run ends"
        case Ruling.CANCEL_THEN_BUFFER:
            held.state, held.note = "buffered", "until the cancelled run ends"
            progress.cancel(running, buffered)
        case Ruling.TERMINATE_THEN_SEND:
            held.state, held.note = "due", ""
            progress.terminate(running)


def _due_times(live: Live, now: datetime) -> tuple[list[datetime], bool]:
    """
    Return the newest due times, as many as could matter, and whether older ones were passed over uncounted.
    """
    plan, rules = live.plan, live.entry.rules
    first: datetime = plan.next_at
    most = {"skip": 0, "one": 1, "all": rules.missed.most}[rules.missed.mode]
    most += _MOST_MISSED_SHOWN + int(GRACE.total_seconds())
    # After a long absence a fast entry has missed millions: they are sought backwards, in windows that double.
    window = timedelta(hours=1)
    while now - window > first:
        found, upcoming = _times_from(live.entry, live.entry.after(now - window), now, most)
        if len(found) == most:
            plan.next_at = upcoming
            return found, True
        window *= 2
    found, plan.next_at = _times_from(live.entry, first, now, most)
    return found, False


def _times_from(
    entry: Entry, nominal: datetime | None, now: datetime, most: int
) -> tuple[list[datetime], datetime | None]:
    found: deque[datetime] = deque(maxlen=most)
    while nominal is not None and nominal + entry.delay(nominal) <= now:
        found.append(nominal)
        nominal = entry.after(nominal)
    return list(found), nominal
