"""
Let tasks without guards obey pauses and cancellations, for one look at the store a second and process.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from celery_platform.clock import SYSTEM
from celery_platform.current import current_or_none
from celery_platform.errors import StoreError
from celery_platform.guards.refusals import sentence
from celery_platform.guards.ticket import Ticket
from celery_platform.outcomes import Deferred, Skipped
from celery_platform.stores.guard_state import Request

if TYPE_CHECKING:
    from celery_platform.clock import Clock
    from celery_platform.outcomes import Call, Outcome
    from celery_platform.stores.redis_guards import RedisGuards

__all__ = ["Board", "BoardAdmission"]

logger = logging.getLogger("celery_platform.guards")

_FRESH = 1.0
_AWAY = 9.0


class Board:
    """
    What an operator has paused or cancelled, at most a second old; a store that is away leaves it as it was.
    """

    def __init__(self, state: RedisGuards, clock: Clock = SYSTEM) -> None:
        self.state = state
        self._clock = clock
        self._read_at = float("-inf")
        self._lock = threading.Lock()
        self._pauses: dict[str, dict[str, Any]] = {}
        self._marks = 0

    def pauses(self) -> dict[str, dict[str, Any]]:
        """
        Return the pauses in force, by subject.
        """
        self._refresh()
        now = self._clock.now() * 1000
        return {name: pause for name, pause in self._pauses.items() if not 0 < pause["until"] <= now}

    def cancelled(self, call_id: str) -> bool:
        """
        Tell whether a call is cancelled; asks the store only while any call is.
        """
        self._refresh()
        return self._marks > 0 and self.state.cancelled(call_id)

    def _refresh(self) -> None:
        now = self._clock.monotonic()
        if now - self._read_at < _FRESH or not self._lock.acquire(blocking=False):
            return
        try:
            self._read_at = now
            self._pauses, self._marks = self.state.board()
        except StoreError as error:
            # A store that hangs must not hold up every call for as long as a command may take.
            self._read_at = self._clock.monotonic() + _AWAY
            logger.warning("Pauses and cancellations could not be read; the last known ones hold: %s", error)
        finally:
            self._lock.release()


class BoardAdmission:
    """Stand before a task without guards, and stop what has been paused or cancelled."""

    def __init__(self, task: str, board: Board) -> None:
        self.task = task
        self.board = board

    def admit(self, call: Call) -> Ticket | Skipped | Deferred:
        """
        Return a ticket, or what becomes of a call that is paused or cancelled.
        """
        try:
            if self.board.cancelled(call.id):
                return Skipped("cancelled", discarded=True)
        except StoreError as error:
            logger.warning("Whether %s was cancelled is not known; it runs: %s", call.id, error)
        pauses = self.board.pauses()
        for subject in (f"task:{self.task}", f"queue:{call.queue}"):
            if subject in pauses:
                return Deferred(self._wait(call), sentence("pause", subject, str(pauses[subject]["reason"])), "pause")
        state = self.board.state
        ticket = Ticket(state, state, Request(call.id, self.task, "", ()), None)
        running = current_or_none()
        if running is not None:
            running.hold = ticket
        return ticket

    def settle(self, call: Call, ticket: object, outcome: Outcome) -> Outcome:
        """
        Return *outcome*, or that the call was cancelled.
        """
        del call
        return ticket.ended(outcome) if isinstance(ticket, Ticket) else outcome

    def unclaim(self, call_id: str, args: Any, kwargs: Any) -> None:
        """
        Do nothing: no key is held.
        """

    def _wait(self, call: Call) -> float:
        # A long pause is asked about less and less often, at most every ten seconds.
        return float(min(1.5 ** min(call.deferrals, 6), 10.0))
