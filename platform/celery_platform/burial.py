"""
Write the dead letter of a call before Celery acknowledges its message.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject

from celery_platform import events
from celery_platform.clock import SYSTEM
from celery_platform.dead_letters import DeadLetter, failure_of
from celery_platform.dead_letters.letter import trace_id_of
from celery_platform.errors import PlatformError, StoreError
from celery_platform.headers import LINEAGE, carried, history_of
from celery_platform.outcomes import Buried, Deferred, Retrying, Skipped, Succeeded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_platform.dead_letters import Failure
    from celery_platform.outcomes import Call, Outcome
    from celery_platform.task import PlatformTask

__all__ = ["BODY", "bury", "failed", "keep", "letter_of", "message_of", "tell"]

logger = logging.getLogger("celery_platform.burial")

# Among a request's properties: the body as it was received, for its dead letter.
BODY = "platform_body"

# How long a worker holds on to a call whose dead letter cannot be written, before it gives the call back.
_PATIENCE = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
_TRACEBACK = 16_384
# What the message of a call has in its headers, by Celery's protocol, beside those of its own.
_PROTOCOL = (
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id",
    "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers",
    "stamps",
)  # fmt: skip


def bury(task: PlatformTask[Any, Any], call: Call, outcome: Buried) -> None:
    """
    Keep *call* as a dead letter; a second burial of the same call is recognised.

    Raises `Reject` (back to the queue) when the store stays away: an unwritten letter must not be acknowledged.
    """
    letter = letter_of(task, call, outcome)
    for wait in (*_PATIENCE, None):
        try:
            keep(task, letter, call)
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


def keep(task: PlatformTask[Any, Any], letter: DeadLetter, call: Call) -> None:
    """
    Write *letter* by the rules of *task*; the books learn of a call that nobody entered when it was enqueued.

    Raises `StoreError` when it could not be written.
    """
    policy = task.policy
    task.platform.dead_letters.bury(
        letter, retention=policy.dead_letters, on_dead=policy.on_dead, counted=call.enqueued_at is not None
    )


def letter_of(task: PlatformTask[Any, Any], call: Call, outcome: Buried, request: Any = None) -> DeadLetter:
    """
    Return the record of *call*; texts are safe to show, the message is what a replay needs.

    *request* is the call's own where no body runs, as in the worker's main process.
    """
    request = request or task.request
    headers = request.headers or {}
    shown = task.contract.argsrepr(call.args, call.kwargs) or (repr(call.args)[:1024], repr(call.kwargs)[:1024])
    failure = failed(task, call, outcome.error, request.hostname, most=_TRACEBACK)
    return DeadLetter(
        id=call.id,
        call_id=call.id,
        task=call.task,
        queue=call.queue,
        reason=outcome.reason,
        error=_told(outcome.error),
        buried_at=SYSTEM.now(),
        attempts=call.failures + (0 if outcome.reason == "deadline" else 1),
        deliveries=call.deliveries,
        deferrals=call.deferrals,
        group=failure.fingerprint,
        key=_key(task, call),
        worker=request.hostname,
        version=failure.version,
        trace_id=trace_id_of(headers),
        traceback=failure.traceback,
        argsrepr=shown[0],
        kwargsrepr=shown[1],
        history=(*history_of(headers), {**asdict(failure), "traceback": failure.traceback[-2048:]}),
        lineage=lineage_of(headers),
        message=message_of(request),
    )


def failed(
    task: PlatformTask[Any, Any], call: Call, error: BaseException, worker: str | None, *, most: int = 2048
) -> Failure:
    """
    Return what is kept of an attempt that ended with *error*; *most* bounds its traceback in bytes.
    """
    return failure_of(
        error, call.task, attempt=call.attempt, worker=worker, version=task.platform.settings.build, most=most
    )


def lineage_of(headers: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Return the letters a call was replayed from, the oldest first; an odd header counts as none.
    """
    found = headers.get(LINEAGE)
    return tuple(str(one) for one in found) if isinstance(found, (list, tuple)) else ()


def message_of(request: Any) -> dict[str, Any]:
    """
    Return the message of *request*: its body as received where it is known, and else written anew.
    """
    properties = {name: value for name, value in (request.properties or {}).items() if name != "application_headers"}
    body = properties.pop(BODY, None)
    if body is None:
        embed = {name: getattr(request, name, None) for name in ("callbacks", "errbacks", "chain", "chord")}
        body = json.dumps([list(request.args or ()), dict(request.kwargs or {}), embed], default=str)
        properties |= {"content_type": "application/json", "content_encoding": "utf-8"}
    raw = body.encode(properties.get("content_encoding") or "utf-8") if isinstance(body, str) else bytes(body)
    named = {name: getattr(request, name, None) for name in _PROTOCOL}
    return {
        "raw": base64.b64encode(raw).decode(),
        "headers": {**carried(request.headers), **named},
        "properties": properties,
    }


def tell(call: Call, outcome: Outcome, runtime: float) -> None:
    """
    Give the event of *outcome* to whoever listens; *runtime* is in seconds. A burial is told when its letter is kept.
    """
    names: dict[str, Any] = {"call_id": call.id, "task": call.task, "queue": call.queue}
    match outcome:
        case Succeeded():
            events.emit(events.CallSucceeded(**names, attempt=call.attempt, runtime=runtime))
        case Deferred():
            events.emit(
                events.CallDeferred(
                    **names, deferrals=call.deferrals + 1, delay=outcome.delay, reason=outcome.reason, by=outcome.by
                )
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


def _key(task: PlatformTask[Any, Any], call: Call) -> str:
    if task.guarded is None:
        return ""
    try:
        return task.guarded.key_of(call.args, call.kwargs)
    except (PlatformError, LookupError, TypeError, ValueError):
        return ""  # arguments that break the contract have no key


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:1024]
