"""
Run replays in the background of the console, and tell how far they are.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from celery_platform.errors import StoreError

if TYPE_CHECKING:
    from celery_platform.audit import Action
    from celery_platform.celery_app import Platform
    from celery_platform.replay import ReplayPlan, ReplayReport

__all__ = ["Progress", "begin", "progress"]

logger = logging.getLogger("celery_platform.console")

_KEPT = 20


@dataclass(slots=True)
class Progress:
    """How far the replay of *what*, asked for by *actor*, is: *sent* of *total*, and its *state*."""

    what: str
    actor: str
    sent: int = 0
    total: int = 0
    state: str = "running"
    note: str = ""

    def heard(self, sent: int, total: int) -> None:
        """
        Note that *sent* of *total* are sent.
        """
        self.sent, self.total = sent, total


@dataclass(slots=True)
class _Board:
    shown: list[Progress] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


_board = _Board()


def begin(platform: Platform, plan: ReplayPlan, action: Action) -> int:
    """
    Begin to send the letters of *plan*, and return how many it selects now.

    What came of it is written into the audit log as the end of *action*. Raises `PlatformError` for a plan that
    cannot work.
    """
    from celery_platform.replay import Replay

    replay = Replay(platform, plan)
    selected = platform.dead_letters.count(plan.where)
    shown = Progress(plan.where.told(), plan.actor, total=selected)
    with _board.lock:
        _board.shown = [shown, *_board.shown][:_KEPT]
    threading.Thread(
        target=_run, args=(platform, replay, action, shown), name=f"replay-{replay.name[:12]}", daemon=True
    ).start()
    return selected


def progress() -> list[dict[str, Any]]:
    """
    Return the replays that this console has begun, the newest first.
    """
    return [asdict(one) for one in _board.shown]


def _run(platform: Platform, replay: Any, action: Action, shown: Progress) -> None:
    try:
        report: ReplayReport = replay.run(progress=shown.heard)
    except Exception as error:
        logger.exception("A replay did not come to its end; the same replay goes on where it stopped.")
        shown.state, shown.note, after = "failed", type(error).__name__, type(error).__name__
    else:
        shown.state, shown.sent = report.state, report.total
        passed_over = len(report.passed_over)
        shown.note = f"{report.canary_failed} of the canary failed" if report.canary_failed else ""
        shown.note += f" {passed_over} passed over" if passed_over else ""
        after = f"sent {report.sent}, canary failed {report.canary_failed}, passed over {passed_over}"
    try:
        platform.audit.end(action, shown.state, after=after)
    except StoreError:
        logger.exception("What came of a replay could not be written down.")
