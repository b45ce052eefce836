"""
Make Celery's message out of a delivery, without a channel: its verdict goes to whoever holds the delivery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from kombu.transport import virtual

from celery_platform.transport.envelope import SERVED, delay_left
from celery_platform.transport.stock import Channel

if TYPE_CHECKING:
    from celery_platform.transport.envelope import Delivery

__all__ = ["HeldMessage", "Holder", "Parking"]


class Holder(Protocol):
    """Who settles a delivery."""

    def ack(self, delivery: Delivery) -> None:
        """
        Strike it: its work is done and its result is kept.
        """

    def reject(self, delivery: Delivery) -> None:
        """
        Never deliver it again.
        """

    def requeue(self, delivery: Delivery) -> None:
        """
        Deliver it again, as one that ended without an outcome.
        """


class Parking(Holder, Protocol):
    """Who can also make a delivery wait, or keep one that cannot be read."""

    def bury(self, delivery: Delivery, error: str) -> None:
        """
        Never deliver it again, since it cannot be read.
        """

    def park(self, delivery: Delivery, delay: float, message: bytes) -> None:
        """
        Keep *message* on the server for *delay* seconds instead.
        """


class _Bodies:
    """What kombu's message asks of its channel."""

    no_ack_consumers: frozenset[str] | None = None

    def decode_body(self, body: Any, encoding: str | None = None) -> Any:
        """
        Return the bytes of a body.
        """
        return Channel.codecs[encoding].decode(body) if encoding else body


_BODIES = _Bodies()


class HeldMessage(virtual.Message):
    """
    A message as Celery knows it, settled through *holder*.

    *accept* are the content types that may be decoded. Raises whatever the payload breaks.
    """

    delivery: Delivery
    _state: str

    def __init__(self, delivery: Delivery, holder: Holder, accept: Any) -> None:
        payload = delivery.message
        payload["properties"]["delivery_tag"] = delivery.field
        headers = payload["headers"]
        if payload["properties"].get(SERVED) and headers.get("eta") and delay_left(payload):
            headers["eta"] = None  # the server has waited; this host's clock is behind
        super().__init__(payload, channel=_BODIES)  # type: ignore[arg-type]  # the part that is asked for
        self.accept = accept
        self.delivery = delivery
        self._holder = holder

    def ack(self, multiple: bool = False) -> None:  # noqa: ARG002 - kombu's signature
        """
        Acknowledge.
        """
        self._end("ACK")
        self._holder.ack(self.delivery)

    def reject(self, requeue: bool = False) -> None:
        """
        Refuse, for good or to be tried again.
        """
        self._end("REJECTED")
        (self._holder.requeue if requeue else self._holder.reject)(self.delivery)

    def requeue(self) -> None:
        """
        Refuse, to be tried again.
        """
        self.reject(requeue=True)

    def _end(self, state: str) -> None:
        if self.acknowledged:
            raise self.MessageStateError(f"Message already acknowledged with state: {self._state}")
        self._state = state
