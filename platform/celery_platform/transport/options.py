"""
Hold the words that shape a consumer, with kombu's names where kombu has one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from celery_platform.transport.keys import TransportKeys

__all__ = ["ConsumerOptions"]


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """
    How a consumer holds its messages.

    *lease* is how many seconds a silent consumer keeps what it holds; *delivery_limit* how many consumers may die with
    a message before it becomes a casualty. *poll* is the longest sleep between two looks at the queues, *short_poll*
    the same on a server that cannot wake us. With *renew* false somebody else renews the lease (a parent for its
    children). *promote* bounds how many due messages one fetch moves; without *keep_rejected* a rejected message is
    dropped.
    """

    lease: float = 30.0
    delivery_limit: int = 3
    poll: float = 1.0
    short_poll: float = 0.05
    promote: int = 200
    renew: bool = True
    keep_rejected: bool = True
    keys: TransportKeys = field(default_factory=TransportKeys)

    @property
    def lease_ms(self) -> int:
        """The lease in milliseconds."""
        return int(self.lease * 1000)
