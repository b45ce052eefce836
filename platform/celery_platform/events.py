"""
State facts about calls and schedules, one frozen value each, for whoever listens.

Hooks get every event after it happened and cannot change it. A hook that raises is logged and never ends a call.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Protocol

from celery_platform.clock import SYSTEM

__all__ = [
    "BreakerMoved",
    "CallBuried",
    "CallDeduplicated",
    "CallDeferred",
    "CallDiscarded",
    "CallEnqueued",
    "CallEvent",
    "CallParked",
    "CallRetrying",
    "CallSucceeded",
    "EntryDisabled",
    "EntryOverdue",
    "EntryPaused",
    "FiringEnded",
    "FiringSent",
    "FiringsMissed",
    "GroupAppeared",
    "GuardsUnreachable",
    "Hook",
    "LeaseTakenOver",
    "LettersTruncated",
    "LimitPassed",
    "ScheduleEvent",
    "emit",
    "listening",
    "subscribe",
    "unsubscribe",
]

logger = logging.getLogger("celery_platform.events")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent:
    """Something happened to the call *call_id* of *task*; *at* is a Unix time in seconds."""

    call_id: str
    task: str
    queue: str | None = None
    at: float = field(default_factory=SYSTEM.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnqueued(CallEvent):
    """The broker has taken the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSucceeded(CallEvent):
    """The body returned; *runtime* is in seconds."""

    attempt: int
    runtime: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDeferred(CallEvent):
    """The call waits *delay* seconds for *reason*, which is *by*'s; no attempt was spent."""

    deferrals: int
    delay: float
    reason: str
    by: str = "snooze"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRetrying(CallEvent):
    """Attempt number *attempt* failed with *error* (class and scrubbed message); the next follows in *delay* s."""

    attempt: int
    delay: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDiscarded(CallEvent):
    """The call ended because its work was no longer wanted."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBuried(CallEvent):
    """The call became a dead letter; *reason* is its code, *error* the scrubbed message."""

    reason: str
    attempts: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAppeared(CallEvent):
    """The call is the first dead letter of a new *group*; *error* is what it says."""

    group: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LettersTruncated(CallEvent):
    """To keep the letter of this call, *count* older ones had to leave before their time."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallParked(CallEvent):
    """No worker that looked knows this task, or this version of it (*why*); it is tried again in *delay* seconds."""

    why: str
    delay: float
    waited: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDeduplicated(CallEvent):
    """The call was not enqueued: its idempotency key is held by *holder*."""

    holder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerMoved(CallEvent):
    """A call made the circuit breaker *breaker* go from the state *was* to *now*."""

    breaker: str
    was: str
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitPassed(CallEvent):
    """A limit in `dry_run` would have refused the call."""

    limit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardsUnreachable(CallEvent):
    """The guards' store did not answer; *rule* is what was done: ``allow`` or ``defer``."""

    rule: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEvent(CallEvent):
    """Something happened to the schedule entry *entry*; without a call, *call_id* is empty."""

    call_id: str = ""
    task: str = ""
    entry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringSent(ScheduleEvent):
    """The broker has taken the firing of *nominal* (ISO 8601), *lag* seconds after it."""

    nominal: str
    lag: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringEnded(ScheduleEvent):
    """The firing of *nominal* ended in *state*, a word of `beat.site.models.TERMINAL_STATES`."""

    nominal: str
    state: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringsMissed(ScheduleEvent):
    """*count* firings were given up, as the misfire policy says."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryDisabled(ScheduleEvent):
    """The row of the entry cannot work; *reason* says why and what to do."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPaused(ScheduleEvent):
    """The entry paused itself after failures; *reason* says so."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryOverdue(ScheduleEvent):
    """No firing of the entry had succeeded by *deadline* (ISO 8601)."""

    deadline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTakenOver(CallEvent):
    """*messages* of the dead consumer *holder* are in their queues again; this is about no call in particular."""

    call_id: str = ""
    task: str = ""
    holder: str
    messages: int


class Hook(Protocol):
    """What is called with every event."""

    def __call__(self, event: CallEvent, /) -> None:
        """
        Take note of *event*; an exception is logged and swallowed.
        """


_hooks: tuple[Hook, ...] = ()


def subscribe(hook: Hook) -> None:
    """
    Give every later event of this process to *hook*; a second subscription of the same hook changes nothing.
    """
    global _hooks  # noqa: PLW0603 - one registry a process
    if hook not in _hooks:
        _hooks = (*_hooks, hook)


def unsubscribe(hook: Hook) -> None:
    """
    Stop giving events to *hook*; an unknown hook is ignored.
    """
    global _hooks  # noqa: PLW0603
    _hooks = tuple(known for known in _hooks if known is not hook)


def listening() -> bool:
    """
    Tell whether anybody listens, so that nobody builds events for an empty room.
    """
    return bool(_hooks)


def emit(event: CallEvent) -> None:
    """
    Give *event* to every hook in order of subscription.
    """
    for hook in _hooks:
        try:
            hook(event)
        except Exception:
            logger.exception("The event hook %r failed on %s; the call goes on.", hook, type(event).__name__)
