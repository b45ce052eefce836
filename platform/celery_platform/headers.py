"""
Name the message headers of ours, and read a call out of a message. All are optional on the wire.

==========================  =========================================================================
header                      value
==========================  =========================================================================
``platform_enqueued_at``    Unix time (s) of the first publish
``platform_ready_at``       Unix time (s) from which on this delivery could run
``platform_deadline``       Unix time (s) after which the call is a dead letter
``platform_failures``       attempts that failed so far
``platform_deferrals``      waits that were no failure so far
``platform_first_failed_at``  Unix time (s) of the first failure
``platform_delay``          the last retry wait (s)
``platform_scheduled_for``  nominal time (ISO 8601) of a scheduled run
``platform_group``          message group of a call on SQS, kept by its retries and deferrals
``platform_deaths``         processes that died with the call, where the broker does not count them
``platform_history``        what the failed attempts said, the oldest first (at most 16 KiB)
``platform_lineage``        ids of the dead letters that this call was replayed from, the oldest first
``platform_replay``         the name of the replay that sent it
``platform_schema``         version of the payload; 1 when it is missing
``platform_parked_since``   Unix time (s) since when no worker that looked knew the task or its version
``platform_parked_from``    the queue it was in then
==========================  =========================================================================
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from celery_platform.clock import SYSTEM
from celery_platform.outcomes import Call, Retrying

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_platform.dead_letters import Failure
    from celery_platform.outcomes import Deferred

__all__ = [
    "DEADLINE",
    "DEATHS",
    "DEFERRALS",
    "DELAY",
    "ENQUEUED_AT",
    "FAILURES",
    "FIRST_FAILED_AT",
    "HISTORY",
    "LINEAGE",
    "PARKED_FROM",
    "PARKED_SINCE",
    "READY_AT",
    "REPLAY",
    "SCHEDULED_FOR",
    "SCHEMA",
    "call_from",
    "carried",
    "counters_after",
    "first_headers",
    "history_after",
    "history_of",
    "keep_group",
    "was_published_before",
]

ENQUEUED_AT = "platform_enqueued_at"
READY_AT = "platform_ready_at"
DEADLINE = "platform_deadline"
FAILURES = "platform_failures"
DEFERRALS = "platform_deferrals"
FIRST_FAILED_AT = "platform_first_failed_at"
DELAY = "platform_delay"
SCHEDULED_FOR = "platform_scheduled_for"
DEATHS = "platform_deaths"
GROUP = "platform_group"
HISTORY = "platform_history"
LINEAGE = "platform_lineage"
REPLAY = "platform_replay"
SCHEMA = "platform_schema"
PARKED_SINCE = "platform_parked_since"
PARKED_FROM = "platform_parked_from"

_LONGEST_HISTORY = 16_384

# RabbitMQ's delayed delivery writes the delay, bit by bit, in front of the routing key.
_DELAY_PREFIX = re.compile(r"^(?:[01]\.){28}")


def call_from(task: str, request: Any) -> Call:
    """
    Return the call that Celery's *request* describes; headers that are missing or odd count as absent.
    """
    headers = request.headers or {}
    delivery = request.delivery_info or {}
    return Call(
        id=request.id,
        task=task,
        args=tuple(request.args or ()),
        kwargs=request.kwargs or {},
        queue=queue_of(delivery.get("routing_key")),
        failures=_whole(headers.get(FAILURES)),
        deferrals=_whole(headers.get(DEFERRALS)),
        deliveries=1 + _whole(delivery.get("deliveries", int(bool(delivery.get("redelivered"))))),
        enqueued_at=_number(headers.get(ENQUEUED_AT)),
        deadline=_number(headers.get(DEADLINE)),
        scheduled_for=headers.get(SCHEDULED_FOR),
        first_failed_at=_number(headers.get(FIRST_FAILED_AT)),
        previous_delay=_number(headers.get(DELAY)),
    )


def keep_group(headers: dict[str, Any], options: dict[str, Any]) -> None:
    """
    Let a call stay in its message group on SQS: what *options* say is kept in *headers* for those who publish it again.
    """
    if group := options.get("MessageGroupId"):
        headers[GROUP] = group
    elif group := headers.get(GROUP):
        options["MessageGroupId"] = group


def carried(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Return what a call takes along when it is published again: all but the broker's own marks.

    RabbitMQ drops a message whose ``x-death`` says that it has been in the same delay queue before.
    """
    return {name: value for name, value in (headers or {}).items() if not name.startswith("x-")}


def first_headers(given: Mapping[str, Any] | None, deadline: float | None, version: int = 1) -> dict[str, Any]:
    """
    Return the headers of a call that is published now and may take *deadline* seconds; what is *given* stands.

    *version* is that of its payload.
    """
    now = SYSTEM.now()
    headers = {ENQUEUED_AT: now, **(given or {})}
    if deadline is not None:
        headers.setdefault(DEADLINE, now + deadline)
    if version > 1:
        headers.setdefault(SCHEMA, version)
    return headers


def counters_after(call: Call, outcome: Deferred | Retrying) -> dict[str, Any]:
    """
    Return the headers that count *outcome*: a retry is a failure more, a deferral is not.
    """
    if not isinstance(outcome, Retrying):
        return {DEFERRALS: call.deferrals + 1}
    return {
        FAILURES: call.failures + 1,
        FIRST_FAILED_AT: call.first_failed_at if call.first_failed_at is not None else SYSTEM.now(),
        DELAY: outcome.delay,
    }


def history_of(headers: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """
    Return the failures that a call has behind it, the oldest first; an odd header counts as none.
    """
    found = (headers or {}).get(HISTORY)
    return [dict(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def history_after(headers: Mapping[str, Any] | None, failure: Failure) -> list[dict[str, Any]]:
    """
    Return the history with *failure* at its end; the oldest tracebacks leave first, then the oldest failures.
    """
    history = [*history_of(headers), asdict(failure)]
    for one in history:
        if len(json.dumps(history)) <= _LONGEST_HISTORY:
            break
        one["traceback"] = ""
    while len(history) > 1 and len(json.dumps(history)) > _LONGEST_HISTORY:
        history.pop(0)
    return history


def was_published_before(headers: Mapping[str, Any]) -> bool:
    """
    Tell whether these are the headers of a retry or a deferral, and not of a first publish.
    """
    return bool(headers.get(FAILURES) or headers.get(DEFERRALS))


def queue_of(routing_key: Any) -> str | None:
    """
    Return the queue that *routing_key* leads to, whether or not the message was delayed on its way.
    """
    return _DELAY_PREFIX.sub("", routing_key) if isinstance(routing_key, str) else None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
