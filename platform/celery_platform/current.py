"""
Tell a body about the call it runs for.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from celery_platform.clock import SYSTEM
from celery_platform.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_platform.outcomes import Call

__all__ = ["Hold", "RunningCall", "current_call", "current_or_none", "running"]

# Two updates a second are what a person can read; more would only load the result store.
_PROGRESS_INTERVAL = 0.5


class Hold(Protocol):
    """What guards keep for a running call."""

    @property
    def fence(self) -> int:
        """
        The fencing token of this run.
        """

    @property
    def cancelled(self) -> bool:
        """
        Whether the call should stop.
        """

    def once(self, step: str, do: Callable[[], Any] | None) -> Any:
        """
        Do a step of the call once over all its runs.
        """

    def spent(self, limit: str, amount: float) -> None:
        """
        Say what the call really cost.
        """


@dataclass(slots=True)
class RunningCall:
    """
    The call that is running now.

    *call* is its frozen description; everything else is derived from it, or told to the world.
    """

    call: Call
    report: Callable[[dict[str, object]], None] | None = None
    hold: Hold | None = field(default=None, repr=False)
    _reported_at: float = field(default=float("-inf"), repr=False)

    @property
    def id(self) -> str:
        """
        The id of the call, the same through all retries and deferrals.
        """
        return self.call.id

    @property
    def attempt(self) -> int:
        """
        The number of this attempt, from 1.
        """
        return self.call.attempt

    @property
    def failures(self) -> int:
        """
        How many attempts failed before this one.
        """
        return self.call.failures

    @property
    def deferrals(self) -> int:
        """
        How often the call has waited without failing.
        """
        return self.call.deferrals

    @property
    def deadline(self) -> datetime | None:
        """
        When the call must have ended (UTC), or nothing.
        """
        return None if self.call.deadline is None else datetime.fromtimestamp(self.call.deadline, UTC)

    @property
    def scheduled_for(self) -> datetime | None:
        """
        The nominal time of a scheduled run, or nothing for any other call.
        """
        return None if self.call.scheduled_for is None else datetime.fromisoformat(self.call.scheduled_for)

    @property
    def fence(self) -> int:
        """
        A number that grows with every run of any idempotent call; 0 without `idempotency`.

        Hand it to what the body writes to, so that a run that was overtaken can be told apart.
        """
        return 0 if self.hold is None else self.hold.fence

    @property
    def cancelled(self) -> bool:
        """
        Whether somebody cancelled the call, or another run has taken it over: the body should stop soon.
        """
        return self.hold is not None and self.hold.cancelled

    def once(self, step: str, do: Callable[[], Any] | None = None) -> Any:
        """
        Do *step* once over all runs of this call.

        With *do*: return what it returned, recorded as JSON, and never call it again; a crash between the two runs
        it once more. Without: return True the first time and False ever after, so a crash skips the step.
        Outside a worker nothing is recorded. Records last for a day. Raises `StoreError` when the store is away.
        """
        if self.hold is None:
            return True if do is None else do()
        return self.hold.once(step, do)

    def spent(self, limit: str, amount: float) -> None:
        """
        Tell the rate limit named *limit* what the call really cost; the difference to its `cost` is given back.
        """
        if self.hold is not None:
            self.hold.spent(limit, amount)

    def progress(self, done: int, total: int, message: str = "") -> None:
        """
        Say how far the work is; shown as state ``PROGRESS`` with ``done``, ``total`` and ``message``.

        At most two reports a second are stored, and always the last one (``done == total``). Outside a worker
        nothing is stored.
        """
        now = SYSTEM.monotonic()
        if self.report is None or (done < total and now - self._reported_at < _PROGRESS_INTERVAL):
            return
        self._reported_at = now
        self.report({"done": done, "total": total, "message": message})


_running: ContextVar[RunningCall | None] = ContextVar("celery_platform_running_call", default=None)


def current_call() -> RunningCall:
    """
    Return the call this code runs for.

    Raises `PlatformError` outside a task.
    """
    call = _running.get()
    if call is None:
        raise PlatformError(
            "current_call() was asked outside a running task. Call it from the body of a @platform_task."
        )
    return call


def current_or_none() -> RunningCall | None:
    """
    Return the call this code runs for, or nothing outside a task.
    """
    return _running.get()


@contextmanager
def running(call: RunningCall) -> Iterator[RunningCall]:
    """
    Make *call* the current one for the length of the block.
    """
    token = _running.set(call)
    try:
        yield call
    finally:
        _running.reset(token)
