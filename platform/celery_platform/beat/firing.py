"""
Turn an entry that is due into firings: which nominal times, and what each of them does first.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from celery_platform.beat.ledger import Held
from celery_platform.beat.misfire import GRACE
from celery_platform.beat.overlap import Ruling, ruled

if TYPE_CHECKING:
    from datetime import datetime

    from celery_platform.beat.book import Live
    from celery_platform.beat.progress import Progress

__all__ = ["claims_of", "rule"]

# Times looked at in one tick; an entry that has more to make up for goes on in the next.
_MOST_TIMES = 20_000
_MOST_MISSED_SHOWN = 100


def claims_of(live: Live, now: datetime, progress: Progress) -> tuple[list[Held], int]:
    """
    Return the firings of *live* at *now*, and how many were given up; its plan moves on to the next time.

    The firings are in *progress* already; the caller writes them and the plan down together.
    """
    nominals, given_up = _due_times(live, now)
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
    return claims, given_up + len(missed)


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


def _due_times(live: Live, now: datetime) -> tuple[list[datetime], int]:
    plan, entry = live.plan, live.entry
    nominal: datetime | None = _skipped_ahead(live, now)
    found: list[datetime] = []
    while nominal is not None and nominal + entry.delay(nominal) <= now and len(found) < _MOST_TIMES:
        found.append(nominal)
        nominal = entry.after(nominal)
    plan.next_at = nominal
    keep = entry.rules.missed.most + _MOST_MISSED_SHOWN + int(GRACE.total_seconds())
    return found[-keep:], max(0, len(found) - keep)


def _skipped_ahead(live: Live, now: datetime) -> datetime:
    """
    Return where to begin: times that could not be chosen anyway are passed over in one step.
    """
    first: datetime = live.plan.next_at
    rules = live.entry.rules
    back = {"skip": GRACE, "one": timedelta(days=2), "all": rules.catch_up}[rules.missed.mode]
    if back is None or first >= now - back:
        return first
    later = live.entry.after(now - max(back, GRACE) - timedelta(microseconds=1))
    return later if later is not None and first < later <= now else first
