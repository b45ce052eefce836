"""
Bury what RabbitMQ gave up on: calls that were returned too often, rejected or expired.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery_platform.headers import queue_of
from celery_platform.transport import topology
from celery_platform.worker.drain import DrainStep
from celery_platform.worker.letters import Remains, bury

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_platform.celery_app import PlatformCelery

__all__ = ["DeadExchangeDrain", "remains_of"]

logger = logging.getLogger("celery_platform.casualties")

# Headers are kept apart, and where a message lay is no part of it.
_NOT_KEPT = frozenset({"application_headers", "delivery_info", "delivery_tag"})
_INTERVAL = 2.0
_TIMEOUT = 10.0
_TOLD = {
    "poison": "Every process that held the call died, or gave it back, as often as its queue allows",
    "rejected": "The worker refused the message",
    "expired": "The call expired before a worker took it",
}


def remains_of(message: Any, known_tasks: Mapping[str, Any]) -> Remains:
    """
    Return what is left of *message* from the dead-letter queue; its ``x-death`` header tells who gave it up, and why.
    """
    headers = message.headers if isinstance(message.headers, dict) else {}
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    reason = str(last.get("reason") or "rejected")
    reason = "poison" if reason == "delivery_limit" else reason
    task = headers.get("task")
    if reason == "rejected" and task and task not in known_tasks:
        reason = "unknown_task"
    count = headers.get("x-delivery-count")
    return Remains(
        reason=reason,
        error=_TOLD.get(reason, f"RabbitMQ gave the message up ({reason})"),
        queue=str(last["queue"]) if "queue" in last else queue_of(message.delivery_info.get("routing_key")),
        raw=bytes_of(message),
        headers=headers,
        properties=properties_of(message),
        deliveries=1 + count if isinstance(count, int) else 1,
    )


def bytes_of(message: Any) -> bytes:
    """
    Return the body of *message* as it came.
    """
    body = message.body
    if isinstance(body, str):
        return body.encode(message.content_encoding or "utf-8", "surrogateescape")
    return bytes(body or b"")


def properties_of(message: Any) -> dict[str, Any]:
    """
    Return what a replay of *message* needs beside its body and headers.
    """
    properties = {name: value for name, value in (message.properties or {}).items() if name not in _NOT_KEPT}
    return {**properties, "content_type": message.content_type, "content_encoding": message.content_encoding}


class DeadExchangeDrain(DrainStep):
    """
    Move what lies in the dead-letter queue into the dead letters every two seconds, from a thread of its own.

    The letter is written before the message is acknowledged: a crash in between gives one letter, twice recognised.
    """

    thread_name = "dead-exchange-drain"

    def _run(self, app: PlatformCelery) -> None:
        told = False
        while not self._stopped.is_set():
            try:
                self._drain(app)
                told = False
            except Exception as error:  # noqa: BLE001 - a thread that ends would leave everything where it lies
                (logger.debug if told else logger.warning)("The dead-letter queue could not be drained: %s", error)
                told = True
            self._stopped.wait(_INTERVAL)

    def _drain(self, app: PlatformCelery) -> None:
        # A connection that ends with an error gives back what was not acknowledged.
        with app.connection_for_read(transport_options={"read_timeout": _TIMEOUT}) as connection:
            channel: Any = connection.channel()
            queue: Any = topology.dead_queue()(channel)
            queue.declare()
            stopping = False
            while not stopping:
                while (message := queue.get(no_ack=False)) is not None:
                    bury(app, remains_of(message, app.tasks))
                    message.ack()
                stopping = self._stopped.wait(_INTERVAL)
