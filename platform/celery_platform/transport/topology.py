"""
Declare what RabbitMQ has to have: the queues, the delay exchanges, and the grave of what it gives up on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqp.exceptions import PreconditionFailed
from kombu import Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from celery_platform.errors import QueueMismatch
from celery_platform.routing import DEAD_EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kombu import Connection

__all__ = ["dead_queue", "declare"]

# RabbitMQ 4 counts twenty returns when nothing is said, and would then drop what waits for a letter.
_NO_LIMIT = 1_000_000


def dead_queue() -> Queue:
    """
    Return the queue of everything the broker gave up on.
    """
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": _NO_LIMIT}
    return Queue(DEAD_EXCHANGE, Exchange(DEAD_EXCHANGE, type="fanout"), routing_key="", queue_arguments=arguments)


def declare(connection: Connection, queues: Iterable[Queue], *, delay_type: str = "quorum") -> None:
    """
    Declare *queues*, the dead-letter queue and the delay exchanges, and bind them; what exists already stays.

    *connection* gets channels that close with it: give one of your own.

    Raises:
        QueueMismatch: a queue of that name exists and is of another kind.

    """
    queues = list(queues)
    for queue in (dead_queue(), *queues):
        _declare(connection, queue)
    try:
        declare_native_delayed_delivery_exchanges_and_queues(connection, delay_type)
    except PreconditionFailed as error:
        raise QueueMismatch("celery_delayed_*", _told(error)) from error
    for queue in queues:
        if _exchange_type(queue) == "topic":
            bind_queue_to_native_delayed_delivery_exchange(connection, queue)


def _declare(connection: Connection, queue: Queue) -> None:
    # The broker closes the channel of a declaration it refuses.
    channel: Any = connection.channel()
    bound: Any = queue(channel)
    try:
        bound.declare()
    except PreconditionFailed as error:
        raise QueueMismatch(queue.name, _told(error)) from error
    channel.close()


def _exchange_type(queue: Queue) -> str | None:
    exchange: Any = queue.exchange
    return getattr(exchange, "type", None)


def _told(error: PreconditionFailed) -> str:
    return str(getattr(error, "reply_text", None) or error)
