"""
Carry a call from admission to its outcome: admit, attempt, settle. No Celery and no Redis here.
"""

from __future__ import annotations

from signal import NSIG
from typing import TYPE_CHECKING, Any, Protocol

from celery_platform.backoff import retry_after_of
from celery_platform.clock import SYSTEM
from celery_platform.errors import PayloadInvalid
from celery_platform.outcomes import (
    Buried,
    Dead,
    Deferred,
    Discard,
    RetryAfter,
    Retrying,
    Skipped,
    Snooze,
    Succeeded,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_platform.backoff import Backoff
    from celery_platform.clock import Clock
    from celery_platform.outcomes import Call, Outcome

__all__ = ["Admission", "AttemptExited", "AttemptTimedOut", "DeadlineExceeded", "Ticket", "execute", "is_order"]

Ticket = object

_EXIT_BY_SIGNAL = 256


class DeadlineExceeded(Exception):  # noqa: N818 - the name users grep for
    """The call was still waiting when its deadline passed."""


class AttemptTimedOut(TimeoutError):  # noqa: N818 - the name users grep for
    """One attempt ran longer than the task's timeout; a `Backoff(on=TimeoutError)` tries again."""

    def __init__(self, task: str, timeout: float | None = None) -> None:
        self.task = task
        self.timeout = timeout
        super().__init__(task, timeout)

    def __str__(self) -> str:
        limit = "its time limit" if self.timeout is None else f"its timeout of {self.timeout:g} s"
        return f"{self.task} ran longer than {limit}."


class AttemptExited(Exception):  # noqa: N818 - beside its sibling
    """The body called `sys.exit`; the attempt failed and its process goes on."""

    def __init__(self, task: str, code: object = None) -> None:
        self.task = task
        self.code = code
        super().__init__(task, code)

    def __str__(self) -> str:
        return f"{self.task} ended its process with sys.exit({self.code!r}): raise an error or return instead."


def is_order(stop: SystemExit) -> bool:
    """
    Tell an end that the worker ordered from a body that calls `sys.exit`.

    Engines order it by a kind of `SystemExit` of their own, or by the code a pool process answers a signal with: 256
    less the number of the signal, below zero.
    """
    if type(stop) is not SystemExit:
        return True
    return isinstance(stop.code, int) and -_EXIT_BY_SIGNAL <= stop.code < -_EXIT_BY_SIGNAL + NSIG


class Admission(Protocol):
    """All guards of a task behind one door: one question before the body, one answer after it."""

    def admit(self, call: Call) -> Ticket | Skipped | Deferred | Buried:
        """
        Return a ticket when the body may run, or the outcome that a guard decided.
        """

    def settle(self, call: Call, ticket: Ticket, outcome: Outcome) -> Outcome:
        """
        Tell the guards how the admitted call ended, and return its final outcome.
        """


def execute(
    call: Call,
    body: Callable[[], Any],
    *,
    admission: Admission | None = None,
    backoff: Backoff | None = None,
    clock: Clock = SYSTEM,
) -> Outcome:
    """
    Carry *call* to its outcome.

    A guard that refuses decides the outcome and the body never runs. A wait that would end after the call's
    deadline buries it with the reason ``deadline``.
    """
    if _too_late(call, clock.now()):
        return _buried_by_deadline(call)
    if admission is None:
        return _within_deadline(call, attempt(call, body, backoff, clock), clock)
    ticket = admission.admit(call)
    if isinstance(ticket, (Skipped, Deferred, Buried)):
        return _within_deadline(call, ticket, clock)
    outcome = _within_deadline(call, attempt(call, body, backoff, clock), clock)
    return admission.settle(call, ticket, outcome)


def attempt(call: Call, body: Callable[[], Any], backoff: Backoff | None, clock: Clock = SYSTEM) -> Outcome:
    """
    Run *body* once and name what came of it; errors of *body* never escape, save those that end the process.

    A body may answer with a ready outcome: the engine's own signals come that way.
    """
    try:
        value = body()
    except Verdict as verdict:
        return _judge(call, verdict, backoff, clock)
    except Exception as error:  # noqa: BLE001 - every failure of a body has an outcome
        return _failed(call, error, backoff, clock)
    if isinstance(value, Verdict):
        return _judge(call, value, backoff, clock)
    return value if isinstance(value, (Retrying, Skipped)) else Succeeded(value)


def _judge(call: Call, verdict: Verdict, backoff: Backoff | None, clock: Clock) -> Outcome:
    match verdict:
        case Snooze():
            return Deferred(verdict.delay, verdict.reason)
        case Discard():
            return Skipped(verdict.reason, discarded=True)
        case Dead():
            return Buried("rejected", verdict)
        case RetryAfter():
            return _asked_to_wait(call, verdict, backoff, clock)
    raise TypeError(f"{type(verdict).__name__} is not a verdict the platform knows.")


def _asked_to_wait(call: Call, verdict: RetryAfter, backoff: Backoff | None, clock: Clock) -> Outcome:
    if backoff is None or backoff.exhausted(call, clock.now()):
        return Buried("exhausted", verdict)
    return Retrying(backoff.delay(call.attempt, asked=verdict.delay), verdict)


_REASONS: dict[type[Exception], str] = {AttemptTimedOut: "timeout", MemoryError: "oom"}


def _failed(call: Call, error: Exception, backoff: Backoff | None, clock: Clock) -> Outcome:
    if isinstance(error, PayloadInvalid):
        return Buried("invalid", error)
    rule = backoff.rule_for(error) if backoff is not None else None
    over = next((word for kind, word in _REASONS.items() if isinstance(error, kind)), "exhausted")
    if rule is None:
        return Buried("rejected" if backoff is not None and over == "exhausted" else over, error)
    now = clock.now()
    if rule.exhausted(call, now):
        return Buried(over, error)
    asked = retry_after_of(error, now) if rule.honour_retry_after else None
    return Retrying(rule.delay(call.attempt, previous=call.previous_delay, asked=asked), error)


def _within_deadline(call: Call, outcome: Outcome, clock: Clock) -> Outcome:
    if isinstance(outcome, (Deferred, Retrying)) and _too_late(call, clock.now() + outcome.delay):
        return _buried_by_deadline(call, outcome.error if isinstance(outcome, Retrying) else None)
    return outcome


def _too_late(call: Call, moment: float) -> bool:
    return call.deadline is not None and moment > call.deadline


def _buried_by_deadline(call: Call, cause: Exception | None = None) -> Buried:
    error = DeadlineExceeded(
        f"{call.task}[{call.id}] could not end before its deadline"
        f" (attempts {call.failures}, deferrals {call.deferrals})."
    )
    error.__cause__ = cause
    return Buried("deadline", error)
