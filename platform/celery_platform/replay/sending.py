"""
Make a message of a dead letter and publish it.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery_platform import headers as names
from celery_platform.beat.runs import COPY
from celery_platform.clock import SYSTEM
from celery_platform.transport.forwarding import forward

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_platform.celery_app import Platform
    from celery_platform.dead_letters import DeadLetter

__all__ = ["publish", "queue_for", "slim"]

# What a call has behind it and a replay starts without. An end by the clock is set anew, or lifted.
_FORGOTTEN = (
    names.FAILURES, names.DEFERRALS, names.FIRST_FAILED_AT, names.DELAY, names.HISTORY, names.PARKED_SINCE,
    names.PARKED_FROM,    names.DEATHS, names.REPLAY, names.DEADLINE, COPY, "compression", "eta", "expires",
)  # fmt: skip


def queue_for(platform: Platform, letter: DeadLetter, to: str | None) -> str:
    """
    Return the queue a letter is sent to: *to*, or where it came from, or where its task goes today.
    """
    router = platform.router
    if to is not None:
        return router.known(to)
    if letter.queue in router.queues:
        return str(letter.queue)
    policy = getattr(platform.app.tasks.get(letter.task), "policy", None)
    return router.route(letter.task, task_queue=getattr(policy, "queue", None)).queue


def publish(platform: Platform, letter: DeadLetter, call_id: str, queue: str, *, replay: str | None) -> None:
    """
    Publish the call of *letter* as *call_id*, with attempts unspent; *replay* asks its worker to note how it ends.

    Every publish is a copy of its own: whoever runs the call first runs it alone. Raises `PublishFailed`.
    """
    args, kwargs, embed = letter.arguments()
    parcel = letter.parcel()
    told = _headers(letter, parcel.headers, call_id)
    if replay is not None:
        told[names.REPLAY] = replay
    body, properties = parcel.body, {**parcel.properties, "correlation_id": call_id}
    if "task" not in parcel.headers or "compression" in parcel.headers:
        # Celery's first protocol, or packed: written in the second one, plain.
        body = _written([args, kwargs, embed or {}])
        properties |= {"content_type": "application/json", "content_encoding": "utf-8"}
    forward(platform.app, body, queue=queue, headers=told, properties=properties)


def slim(letter: DeadLetter, call_id: str) -> bytes:
    """
    Return what is remembered of a letter that was sent as *call_id*: all but its payload.
    """
    return replace(letter, message={}, sent_as=call_id, sent_at=SYSTEM.now()).to_json()


def _headers(letter: DeadLetter, given: Mapping[str, Any], call_id: str) -> dict[str, Any]:
    now = SYSTEM.now()
    told = {name: value for name, value in given.items() if name not in _FORGOTTEN}
    told |= {"lang": told.get("lang") or "py", "task": letter.task, "id": call_id, "retries": 0}
    told["root_id"] = told.get("root_id") or letter.call_id
    told |= {"argsrepr": letter.argsrepr, "kwargsrepr": letter.kwargsrepr}
    deadline, enqueued = given.get(names.DEADLINE), given.get(names.ENQUEUED_AT)
    if isinstance(deadline, (int, float)) and isinstance(enqueued, (int, float)):
        told[names.DEADLINE] = now + deadline - enqueued
    told[names.ENQUEUED_AT] = told[names.READY_AT] = now
    told[names.LINEAGE] = [*letter.lineage, letter.id]
    told[COPY] = secrets.token_hex(8)
    return told


def _written(body: Any) -> bytes:
    import orjson

    return orjson.dumps(body)
