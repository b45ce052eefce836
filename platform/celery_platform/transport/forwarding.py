"""
Publish a message that was received once, byte for byte, under other headers: now, or in a while.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Any

from amqp.exceptions import AMQPError
from celery.app.amqp import task_message
from kombu import Exchange
from kombu.exceptions import OperationalError
from kombu.transport.native_delayed_delivery import calculate_routing_key, level_name

from celery_platform.transport.publishing import PublishFailed, give_up

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["forward"]

_KEPT = ("reply_to", "correlation_id", "priority", "content_type", "content_encoding", "type", "app_id")
_LAST_LEVEL = 27


def forward(
    app: Any, body: bytes, *, queue: str, headers: Mapping[str, Any], properties: Mapping[str, Any], delay: float = 0.0
) -> None:
    """
    Publish *body* to *queue*, a declared one, in *delay* seconds (whole ones on RabbitMQ, rounded up).

    Raises `PublishFailed` when the broker did not take it: what was received must be kept then.
    """
    name, timeout = str(headers.get("task") or ""), app.platform.settings.publish_timeout
    given = {key: properties[key] for key in _KEPT if properties.get(key) is not None}
    given.setdefault("content_encoding", "binary")
    told = {key: value for key, value in headers.items() if not key.startswith("x-")}
    target: dict[str, Any] = {"queue": app.amqp.queues[queue]}
    if delay > 0 and app.platform.settings.broker_kind == "amqp":
        exchange = Exchange(level_name(_LAST_LEVEL), type="topic")
        target = {"exchange": exchange, "routing_key": calculate_routing_key(ceil(delay), queue)}
    elif delay > 0:
        told["eta"] = (datetime.now(UTC) + timedelta(seconds=delay)).isoformat()
    plain: Any = body  # sent as it is, since its content type is known
    message = task_message(told, given, plain, None)
    try:
        with app.producer_or_acquire() as producer:
            app.amqp.send_task_message(producer, name, message, delivery_mode=2, **target)
    except PublishFailed:
        raise
    except (OperationalError, AMQPError, OSError) as error:
        give_up(error if isinstance(error, OperationalError) else OperationalError(str(error)), name, timeout)
