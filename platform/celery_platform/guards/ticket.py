"""
Hold what an admitted call has, keep it alive while the body runs, and tell the body when to stop.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

from celery_platform.clock import SYSTEM
from celery_platform.errors import PlatformError, StoreError
from celery_platform.execution import AttemptTimedOut
from celery_platform.outcomes import Buried, Deferred, Retrying, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_platform.clock import Clock
    from celery_platform.outcomes import Outcome
    from celery_platform.stores.guard_state import Admitted, GuardState, Request

__all__ = ["RENEWAL", "Renewal", "Steps", "Ticket"]

logger = logging.getLogger("celery_platform.guards")

# A second: short enough that a cancelled call hears of it within two.
_INTERVAL = 1.0


class Steps(Protocol):
    """Where steps of a call are recorded, and cancellations read."""

    def step(self, call_id: str, name: str, value: str | None = None) -> str | None:
        """
        Return what was recorded for a step; with *value*, record it first.
        """

    def cancelled(self, call_id: str) -> bool:
        """
        Tell whether a call is marked as cancelled.
        """


class Ticket:
    """
    The hold of one running call.

    *admitted* is empty when the store could not be asked and the rule was to let the call through.
    """

    def __init__(
        self, state: GuardState, steps: Steps, request: Request, admitted: Admitted | None, clock: Clock = SYSTEM
    ) -> None:
        self.state = state
        self.request = request
        self.admitted = admitted
        self.actual: dict[str, float] = {}
        self.lost = False
        self._steps = steps
        self._clock = clock
        self._cancelled = False
        self.started = clock.monotonic()
        self.renewed = self.started

    @property
    def fence(self) -> int:
        """
        The fencing token of this run.
        """
        return self.admitted.fence if self.admitted else 0

    @property
    def cancelled(self) -> bool:
        """
        Whether the call was cancelled, or taken over by another run.
        """
        if not self.request.rules and not self._cancelled and self._clock.monotonic() - self.renewed >= _INTERVAL:
            self.renewed = self._clock.monotonic()
            with contextlib.suppress(StoreError):
                self._cancelled = self._steps.cancelled(self.request.call_id)
        return self._cancelled or self.lost

    @property
    def ran(self) -> float:
        """
        How long the body has been running, in seconds.
        """
        return self._clock.monotonic() - self.started

    def ended(self, outcome: Outcome) -> Outcome:
        """
        Return *outcome*, save that a cancelled call which did not succeed is neither tried again nor buried.
        """
        if not isinstance(outcome, (Buried, Retrying, Deferred)) or self.lost:
            return outcome
        stopped = isinstance(getattr(outcome, "error", None), AttemptTimedOut)
        if (stopped and self._told_to_stop()) or (self.ran >= _INTERVAL and self.cancelled and not self.lost):
            return Skipped("cancelled while it ran", discarded=True)
        return outcome

    def _told_to_stop(self) -> bool:
        """
        Ask whether a signal to stop came from a cancellation, however short the call ran.
        """
        with contextlib.suppress(StoreError):
            self._cancelled = self._cancelled or self._steps.cancelled(self.request.call_id)
        return self._cancelled

    def renew(self) -> None:
        """
        Extend what the call holds; an outage is survived until the lease ends.
        """
        self.renewed = self._clock.monotonic()
        try:
            held, self._cancelled = self.state.renew(self.request)
        except StoreError as error:
            logger.warning("The hold of %s could not be renewed: %s", self.request.call_id, error)
            return
        if not held and not self.lost:
            self.lost = True
            logger.error("%s was taken over by another run; its result will not count.", self.request.call_id)

    def once(self, step: str, do: Callable[[], Any] | None) -> Any:
        """
        Do a step of the call once over all its runs.
        """
        recorded = self._steps.step(self.request.call_id, step)
        if do is None:
            if recorded is None:
                self._steps.step(self.request.call_id, step, "true")
            return recorded is None
        if recorded is not None:
            return json.loads(recorded)
        value = do()
        self._steps.step(self.request.call_id, step, json.dumps(value))
        return value

    def spent(self, limit: str, amount: float) -> None:
        """
        Say what the call really cost.
        """
        ids = [getattr(rule, "id", "") for rule in self.request.rules]
        matches = [name for name in ids if name.partition("|")[0] == limit]
        if not matches or amount < 0:
            raise PlatformError(
                f"spent({limit!r}, {amount!r}): expected a cost of zero or more for a limit of this task"
                f" ({', '.join(filter(None, ids)) or 'it has none'})."
            )
        self.actual.update(dict.fromkeys(matches, amount))


class Renewal:
    """
    One thread a process that renews the hold of every call that runs for longer than a second.

    It starts with the first such call and again in a forked child. A body that keeps the interpreter's lock for longer
    than the lease loses its hold, and is fenced.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets: set[Ticket] = set()
        self._process = 0
        self._busy = threading.Event()

    def keep(self, ticket: Ticket) -> None:
        """
        Renew *ticket* until `drop`.
        """
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            self._tickets.add(ticket)
        self._busy.set()

    def drop(self, ticket: Ticket) -> None:
        """
        Stop renewing *ticket*.
        """
        with self._lock:
            self._tickets.discard(ticket)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._tickets = set()
        self._busy = threading.Event()
        self._process = os.getpid()
        threading.Thread(target=self._run, name="celery-platform-renewal", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                tickets = list(self._tickets)
                if not tickets:
                    self._busy.clear()
            if not tickets:
                self._busy.wait()
            pause.wait(_INTERVAL / 2)
            for ticket in tickets:
                if ticket in self._tickets and SYSTEM.monotonic() - ticket.renewed >= _INTERVAL:
                    try:
                        ticket.renew()
                    except Exception:
                        logger.exception("Renewing the hold of a running call failed; trying again.")


RENEWAL = Renewal()
