"""
Keep kombu's account of unacknowledged messages, and pass every verdict on to the consumer.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from celery_platform.transport import stock

if TYPE_CHECKING:
    from celery_platform.transport.envelope import Delivery

__all__ = ["LeaseQoS", "running", "shutting_down"]


class LeaseQoS(stock.QoS):  # type: ignore[misc]
    """Prefetch and settlement of one channel."""

    def can_consume(self) -> bool:
        """
        Return whether the channel may be given more.
        """
        return bool(super().can_consume()) and (not self.channel.has_consumer or self.channel.consumer.may_fetch)

    def ack(self, delivery_tag: str) -> None:
        """
        Acknowledge: the work is done and its result is kept.
        """
        self.channel.consumer.ack(delivery_tag)
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """
        Refuse a message. Requeued, it counts as one death, unless the worker is shutting down; else it is a casualty.
        """
        consumer = self.channel.consumer
        delivery: Delivery | None = consumer.holdings.held.get(delivery_tag)
        if delivery is None:
            pass
        elif not requeue and consumer.options.keep_rejected:
            consumer.reject(delivery)
        elif not requeue:
            consumer.ack(delivery_tag)
        elif shutting_down():
            consumer.return_([delivery_tag])
        else:
            consumer.requeue(delivery)
        super().ack(delivery_tag)

    def restore_unacked(self) -> list[Any]:
        """
        Put back everything unacknowledged, at the head of its queue.
        """
        self._flush()
        tags = list(self._delivered)
        self._delivered.clear()
        self.channel.consumer.return_(tags)
        self.channel.consumer.flush()
        return []

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ARG002 - kombu's signature
        """
        Give everything back when the channel or the process ends.
        """
        self._on_collect.cancel()
        self.channel.release()

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """
        Do nothing: leases take the place of kombu's visibility timeout.
        """

    def running(self) -> frozenset[str]:
        """
        Return the tags of what Celery's pool still works on, none once the worker is shutting down.
        """
        return running(self.channel)


def running(channel: Any) -> frozenset[str]:
    """
    Return the delivery tags of *channel* that Celery's pool works on, none once the worker is shutting down.
    """
    state = sys.modules.get("celery.worker.state")
    if state is None or shutting_down():
        return frozenset()
    messages = [getattr(request, "_message", None) for request in list(state.active_requests)]
    return frozenset(message.delivery_tag for message in messages if message and message.channel is channel)


def shutting_down() -> bool:
    """
    Tell whether this process is a worker that has been asked to stop.
    """
    state = sys.modules.get("celery.worker.state")
    return state is not None and (state.should_stop not in (None, False) or state.should_terminate not in (None, False))
