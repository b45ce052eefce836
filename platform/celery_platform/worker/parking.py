"""
Let a call wait for a worker that knows its task, or this version of its payload: nobody drops what is only too new.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Any

from celery_platform import events
from celery_platform.clock import SYSTEM
from celery_platform.headers import DEFERRALS, PARKED_FROM, PARKED_SINCE, SCHEMA
from celery_platform.routing import PLAIN_QUEUE
from celery_platform.transport.forwarding import forward
from celery_platform.worker.dead_exchange import bytes_of, properties_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["park", "too_new"]

logger = logging.getLogger("celery_platform.doors")

_LONGEST = 60.0
_STEPS = 6
_QUIET = 60.0
_told: dict[str, float] = {}


def too_new(headers: Mapping[str, Any], tasks: Mapping[str, Any]) -> str | None:
    """
    Say why a message is for a newer worker, or return nothing; one of an unknown task is judged elsewhere.
    """
    version = headers.get(SCHEMA)
    policy = getattr(tasks.get(str(headers.get("task"))), "policy", None)
    if policy is None or not isinstance(version, int) or version <= policy.version:
        return None
    return f"Version {version} of the payload of {headers['task']} is newer than this worker's {policy.version}"


def park(app: Any, message: Any, queue: str | None, task: str, call_id: str, why: str) -> bool:
    """
    Publish *message* again, for later; answer False when it has waited for `PLATFORM_UNKNOWN_TTL`.

    The waits grow from one second to a minute. Each counts as a deferral, and no attempt is spent. The caller
    acknowledges *message* afterwards. Raises `PublishFailed` when it must not.
    """
    headers = dict(message.headers or {})
    since = headers.get(PARKED_SINCE)
    since = float(since) if isinstance(since, (int, float)) else SYSTEM.now()
    left = since + app.platform.settings.unknown_ttl - SYSTEM.now()
    if left <= 0:
        return False
    times = headers.get(DEFERRALS)
    times = times if isinstance(times, int) and times >= 0 else 0
    delay = min(2.0 ** min(times, _STEPS), _LONGEST) * (0.75 + random.random() / 2)  # noqa: S311 - spreads arrivals
    delay = min(delay, left)
    forward(
        app,
        bytes_of(message),
        queue=_queue(app, queue, task),
        headers={**headers, DEFERRALS: times + 1, PARKED_SINCE: since, PARKED_FROM: headers.get(PARKED_FROM) or queue},
        properties=properties_of(message),
        delay=delay,
    )
    _alarm(task, call_id, queue, why, delay=delay, waited=SYSTEM.now() - since)
    return True


def _queue(app: Any, queue: str | None, task: str) -> str:
    router = app.platform.router
    # The plain queue of RabbitMQ is classic and knows no delay.
    stays = queue in router.queues and not (app.platform.settings.broker_kind == "amqp" and queue == PLAIN_QUEUE)
    return str(queue if stays else router.route(task).queue)


def _alarm(task: str, call_id: str, queue: str | None, why: str, *, delay: float, waited: float) -> None:
    now = time.monotonic()
    if now - _told.get(task, -_QUIET) >= _QUIET:
        _told[task] = now
        logger.error("%s. Such calls wait for a worker that can; this one, %s, has for %.0f s.", why, call_id, waited)
    if events.listening():
        events.emit(events.CallParked(call_id=call_id, task=task, queue=queue, why=why, delay=delay, waited=waited))
