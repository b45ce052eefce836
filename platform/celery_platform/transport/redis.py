"""
Our Redis transport for kombu: stock on the wire, a lease for every message.

`install()` makes kombu use it for every Redis URL. It leans on private parts of kombu 5.7's own transport, which
`private_parts` names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from celery_platform.transport import stock
from celery_platform.transport.channel import Channel, SentinelChannel
from celery_platform.transport.poller import Poller
from celery_platform.transport.private_parts import check_private_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kombu import Connection

    from celery_platform.transport.consumer import Consumer
    from celery_platform.transport.envelope import Delivery
    from celery_platform.transport.options import ConsumerOptions

__all__ = ["SentinelTransport", "Transport", "install", "open_consumer"]


class Transport(stock.Transport):  # type: ignore[misc]
    """The transport behind `redis://`, `rediss://` and `redis+socket://`."""

    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """
        Fetch from Celery's event loop.
        """
        self.cycle.hub = loop
        super().register_with_event_loop(connection, loop)


class SentinelTransport(Transport):
    """The transport behind `sentinel://`."""

    default_port = 26379
    Channel = SentinelChannel


_HERE = "celery_platform.transport.redis"
_SCHEMES = {
    "redis": f"{_HERE}:Transport",
    "rediss": f"{_HERE}:Transport",
    "sentinel": f"{_HERE}:SentinelTransport",
}


def install() -> None:
    """
    Make kombu use this transport for every Redis URL of this process. Calling it again changes nothing.

    Raises:
        celery_platform.errors.ConfigurationError: this kombu lacks a private part the transport is built on.

    """
    transport: Any = import_module("kombu.transport")

    check_private_parts()
    for scheme, path in _SCHEMES.items():
        transport.TRANSPORT_ALIASES[scheme] = path
        transport._transport_cache.pop(scheme, None)  # noqa: SLF001 - what was resolved before would stay


def open_consumer(
    connection: Connection,
    queues: Iterable[str],
    *,
    options: ConsumerOptions | None = None,
    owner: str | None = None,
    on_lost: Callable[[Delivery], None] | None = None,
) -> Consumer:
    """
    Return a consumer of *queues* that needs no channel, for a process that fetches for itself.

    It uses the parameters of *connection* (TLS, Sentinel, credentials, transport options) on sockets of its own.
    *options* default to the connection's transport options.
    """
    channel: Any = connection.channel()
    try:
        consumer: Consumer = channel.new_consumer(queues, options=options, owner=owner, on_lost=on_lost)
        return consumer
    finally:
        channel.close()
