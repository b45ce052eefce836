"""
Write the dead letter of a call before Celery acknowledges its message.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject

from celery_platform import events
from celery_platform.clock import SYSTEM
from celery_platform.dead_letters import DeadLetter, traceback_of
from celery_platform.errors import StoreError
from celery_platform.outcomes import Buried, Deferred, Retrying, Skipped, Succeeded

if TYPE_CHECKING:
    from celery_platform.outcomes import Call, Outcome
    from celery_platform.task import PlatformTask

__all__ = ["bury", "letter_of", "tell"]

logger = logging.getLogger("celery_platform.burial")

# How long a worker holds on to a call whose dead letter cannot be written, before it gives the call back.
_PATIENCE = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)


def bury(task: PlatformTask[Any, Any], call: Call, outcome: Buried) -> None:
    """
    Keep *call* as a dead letter; a second burial of the same call is recognised.

    Raises `Reject` (back to the queue) when the store stays away: an unwritten letter must not be acknowledged.
    """
    letter = letter_of(task, call, outcome)
    for wait in (*_PATIENCE, None):
        try:
            task.platform.dead_letters.bury(letter)
        except StoreError as error:
            if wait is None:
                raise Reject(error, requeue=True) from error
            logger.warning(
                "The dead letter of %s[%s] could not be written, trying again: %s", call.task, call.id, error
            )
            time.sleep(wait)
        else:
            logger.error("%s[%s] is a dead letter now (%s): %s", call.task, call.id, letter.reason, letter.error)
            return


def letter_of(task: PlatformTask[Any, Any], call: Call, outcome: Buried, request: Any = None) -> DeadLetter:
    """
    Return the record of *call*; texts are safe to show, the message is what a replay needs.

    *request* is the call's own where no body runs, as in the worker's main process.
    """
    request = request or task.request
    shown = task.contract.argsrepr(call.args, call.kwargs) or (repr(call.args)[:1024], repr(call.kwargs)[:1024])
    error = outcome.error
    return DeadLetter(
        id=call.id,
        call_id=call.id,
        task=call.task,
        queue=call.queue,
        reason=outcome.reason,
        error=_told(error),
        buried_at=SYSTEM.now(),
        attempts=call.failures + (0 if outcome.reason == "deadline" else 1),
        deliveries=call.deliveries,
        deferrals=call.deferrals,
        group=type(error).__name__,
        worker=request.hostname,
        traceback=traceback_of(error),
        argsrepr=shown[0],
        kwargsrepr=shown[1],
        message={
            "args": list(call.args),
            "kwargs": dict(call.kwargs),
            "headers": dict(request.headers or {}),
            "root_id": request.root_id,
            "parent_id": request.parent_id,
        },
    )


def tell(call: Call, outcome: Outcome, runtime: float) -> None:
    """
    Give the event of *outcome* to whoever listens; *runtime* is in seconds.
    """
    names: dict[str, Any] = {"call_id": call.id, "task": call.task, "queue": call.queue}
    match outcome:
        case Succeeded():
            events.emit(events.CallSucceeded(**names, attempt=call.attempt, runtime=runtime))
        case Deferred():
            events.emit(
                events.CallDeferred(**names, deferrals=call.deferrals + 1, delay=outcome.delay, reason=outcome.reason)
            )
        case Retrying():
            events.emit(
                events.CallRetrying(**names, attempt=call.attempt, delay=outcome.delay, error=_told(outcome.error))
            )
        case Skipped(discarded=True):
            events.emit(events.CallDiscarded(**names, reason=outcome.reason))
        case Buried():
            events.emit(
                events.CallBuried(**names, reason=outcome.reason, attempts=call.attempt, error=_told(outcome.error))
            )


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:1024]
