"""
kombu's Redis channel, fetching under a lease.

Connection parameters, Sentinel, TLS, fan-out and bindings stay kombu's.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import ResponseError

from celery_platform.transport import delayed, stock
from celery_platform.transport.consumer import Consumer
from celery_platform.transport.envelope import SERVED, Delivery, delay_left, dumps
from celery_platform.transport.keys import TransportKeys
from celery_platform.transport.options import ConsumerOptions
from celery_platform.transport.qos import LeaseQoS
from celery_platform.transport.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Channel", "SentinelChannel"]

logger = logging.getLogger(__name__)

_BATCH = 250  # messages a fetch asks for at most
_BREATH = 0.000_2  # seconds between two fetches for a few free places, for each message still at hand
_LONGEST_BREATH = 0.015


_OPTIONS = ("lease", "delivery_limit", "namespace", "keep_rejected")


class Channel(stock.Channel):  # type: ignore[misc]
    """kombu's channel, with fetching under a lease, delayed messages and casualties."""

    QoS = LeaseQoS
    from_transport_options = (*stock.Channel.from_transport_options, *_OPTIONS)
    lease = ConsumerOptions().lease
    delivery_limit = ConsumerOptions().delivery_limit
    namespace = "platform"
    keep_rejected = True
    socket_timeout = 5.0
    socket_connect_timeout = 5.0

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        self.ready: deque[Delivery] = deque()
        self._line_pool: Any = None
        self._commands: Any = None
        self._lists: dict[tuple[str, int], str] = {}
        self._fetched_at = 0.0
        super().__init__(connection, **kwargs)

    @cached_property
    def client(self) -> Any:
        """The connection on which messages are fetched; RESP3 where the server speaks it."""
        pool = self._line_pool = self._get_pool(asynchronous=True)
        pool.connection_kwargs["protocol"] = 3
        client = redis.Redis(connection_pool=pool)
        try:
            client.ping()
        except ResponseError as error:
            logger.warning("The server does not speak RESP3 (%s): idle consumers poll.", error)
            pool.disconnect()
            pool.connection_kwargs["protocol"] = 2
        return client

    def _create_client(self, asynchronous: bool = False) -> Any:
        # Stock makes a new client for each command; a tenth of a worker's time goes there.
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._commands is None or self._commands.connection_pool is not self._pool:
            self._commands = super()._create_client()
        return self._commands

    def _disconnect_pools(self) -> None:
        pool, self._line_pool = self._line_pool, None
        if pool is not None:
            pool.disconnect()
        super()._disconnect_pools()

    def _line(self) -> Any:
        return self.client.connection

    @cached_property
    def keys(self) -> TransportKeys:
        """The transport's own keys."""
        return TransportKeys(f"{self.global_keyprefix}{self.namespace}:")

    @cached_property
    def consumer(self) -> Consumer:
        """Who fetches and settles for this channel; made when first needed."""
        return self.new_consumer((), connect=self._line)

    @property
    def has_consumer(self) -> bool:
        """Whether this channel ever fetched."""
        return "consumer" in self.__dict__

    def new_consumer(
        self,
        queues: Iterable[str],
        *,
        connect: Callable[[], Any] | None = None,
        options: ConsumerOptions | None = None,
        owner: str | None = None,
        on_lost: Callable[[Delivery], None] | None = None,
    ) -> Consumer:
        """
        Return a consumer of *queues* with connections of its own, made with this channel's parameters.
        """
        client = redis.Redis(connection_pool=self._get_pool())
        if connect is None:
            connect = _own_line(self._get_pool())
        rotation = Rotation(self._list_of, self.priority_steps, queues, self.queue_order_strategy)
        options = options or ConsumerOptions(
            lease=self.lease, delivery_limit=self.delivery_limit, keep_rejected=self.keep_rejected, keys=self.keys
        )
        return Consumer(client, connect, rotation, options, owner=owner, on_lost=on_lost)

    def _list_of(self, queue: str, priority: int) -> str:
        try:
            return self._lists[queue, priority]
        except KeyError:
            name = f"{self.global_keyprefix}{self._q_for_pri(queue, priority)}"
            self._lists[queue, priority] = name
            return name

    def room(self) -> int:
        """
        Return how many messages may be asked for now.
        """
        free = self.qos.can_consume_max_estimate()
        if free is None:  # no limit: in bulk only where someone works in bulk
            return 100 if self.connection.cycle.hub else 1
        return min(int(free), _BATCH)

    def before_poll(self) -> None:
        """
        Deliver what is left over, and end a wait that has lost its reason.
        """
        if not self.has_consumer:
            return
        if self.ready and self.connection.cycle.hub and self.active_queues:
            self.deliver()
        consumer = self.consumer
        if consumer.waiting and (consumer.holdings.owes or time.monotonic() >= consumer.wake_at):
            consumer.stop_waiting()
            self._in_poll = None
        elif consumer.holdings.owes and not consumer.asking and not self.qos.can_consume():
            consumer.flush()

    def _brpop_start(self, _timeout: float | None = None) -> None:
        if self.ready or not self._worthwhile():
            return
        self._in_poll = self.client.connection
        self._brpop_sent_at = self._fetched_at = time.monotonic()
        self.consumer.start_fetch(self.room())

    def _worthwhile(self) -> bool:
        # A few free places soon become many: asking for each would cost a round trip a message.
        prefetch = self.qos.prefetch_count or 0
        room = self.room()
        if room * 4 >= prefetch or self.connection.cycle.hub is None:
            return True
        breath = min(_LONGEST_BREATH, _BREATH * (prefetch - room))
        since = time.monotonic() - self._fetched_at
        if since < breath:
            self.connection.cycle.wake_in(breath - since)
        return since >= breath

    def _brpop_read(self, **_: Any) -> bool:
        consumer = self.consumer
        try:
            self.ready.extend(consumer.finish_fetch())
        except self.connection_errors:
            self._in_poll = None
            self.client.connection.disconnect()
            raise
        if not consumer.waiting:
            self._in_poll = None
        else:
            self.connection.cycle.wake_in(max(0.0, consumer.wake_at - time.monotonic()))
        if not self.ready:
            raise stock.Empty
        return self.deliver(limit=None if self.connection.cycle.hub else 1)

    def deliver(self, limit: int | None = None) -> bool:
        """
        Hand what was fetched to its consumers' callbacks; return whether there was anything.
        """
        delivered = 0
        while self.ready and (limit is None or delivered < limit):
            delivery = self.ready.popleft()
            callback = self.connection._callbacks.get(delivery.queue) if self.connection else None  # noqa: SLF001
            if callback is None:
                self.consumer.return_([delivery.field])
                continue
            callback(delivery)
            delivered += 1
        return delivered > 0

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> Any:
        """
        Consume *queue*; its messages come under a lease.
        """
        result = super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        if queue in self.active_fanout_queues:
            return result

        def receive(delivery: Delivery) -> Any:
            message = self._message(delivery)
            if message is None:
                return None
            if no_ack:
                self.consumer.ack(delivery.field)
            else:
                self.qos.append(message, delivery.field)
            return callback(message)

        self.connection._callbacks[queue] = receive  # noqa: SLF001
        self.consumer.rotation.update(self.active_queues)
        self.consumer.eager = False
        return result

    def _basic_cancel(self, consumer_tag: str) -> Any:
        result = super()._basic_cancel(consumer_tag)
        if self.has_consumer:
            active = self.active_queues
            self.consumer.rotation.update(active)
            leaving = [delivery for delivery in self.ready if delivery.queue not in active]
            for delivery in leaving:
                self.ready.remove(delivery)
            self.consumer.return_([delivery.field for delivery in leaving])
            if not active:
                self.consumer.eager = True
                self.consumer.settle_soon()
        return result

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Any:
        """
        Return one message of *queue*, or None.
        """
        delivery = self.consumer.take(queue)
        message = self._message(delivery) if delivery else None
        if delivery is None or message is None:
            return None
        if no_ack:
            self.consumer.ack(delivery.field)
        else:
            self.qos.append(message, delivery.field)
        return message

    def _message(self, delivery: Delivery) -> Any:
        payload = delivery.message
        payload["properties"]["delivery_tag"] = delivery.field
        headers = payload["headers"]
        if payload["properties"].get(SERVED) and headers.get("eta") and delay_left(payload):
            headers["eta"] = None  # the server has waited; this host's clock is behind
        try:
            message = self.Message(payload, channel=self)
        except Exception as error:  # noqa: BLE001 - whatever the bytes break, they are kept and the worker goes on
            logger.warning("A message of queue %r cannot be read: %s", delivery.queue, error)
            self.consumer.reject(delivery, "undecodable", f"{type(error).__name__}: {error}")
            return None
        message.delivery = delivery
        return message

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        batch = kwargs.get("_publish_batch")
        key = self._list_of(queue, self._get_message_priority(message, reverse=False))
        if batch is not None:
            if words := delayed.park_command(self.keys, key, message):
                batch.add("eval", *words)
                return
            super()._put(queue, message, **kwargs)
            return
        client = self._raw_client
        if delayed.park(client, self.keys, key, message):
            return
        if queue in self._expires:
            super()._put(queue, message, **kwargs)
            return
        client.lpush(key, dumps(message))

    @property
    def _raw_client(self) -> Any:
        # Keys are complete here; the prefixing client of stock would prefix some of them again.
        client = self._create_client()
        if not self.global_keyprefix:
            return client
        return redis.Redis(connection_pool=client.connection_pool)

    def _all_lists(self, queue: str) -> list[str]:
        return [self._list_of(queue, step) for step in self.priority_steps]

    def _purge(self, queue: str) -> int:
        ready: int = super()._purge(queue)
        return ready + delayed.purge(self._raw_client, self.keys, self._all_lists(queue))

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        super()._delete(queue, *args, **kwargs)
        delayed.purge(self._raw_client, self.keys, self._all_lists(queue))

    def release(self) -> None:
        """
        Give back what this channel holds; what is still being worked on keeps its lease until it is settled.
        """
        if not self.has_consumer:
            return
        self._in_poll = None
        self.ready.clear()
        self.consumer.close(keep=self.qos.running())

    def close(self) -> None:
        """
        Give everything back, and close the connections.
        """
        self.release()
        super().close()

    def _after_fork(self) -> None:
        # The parent's leases are the parent's: a child neither settles nor returns them.
        self._commands = None
        super()._after_fork()


def _own_line(pool: Any) -> Callable[[], Any]:
    pool.connection_kwargs["protocol"] = 3
    held: list[Any] = []

    def connect() -> Any:
        if not held:
            held.append(pool.get_connection())
        return held[0]

    return connect


class SentinelChannel(Channel, stock.SentinelChannel):  # type: ignore[misc]
    """A channel to the server that Redis Sentinel calls the master."""

    from_transport_options = (*stock.SentinelChannel.from_transport_options, *_OPTIONS)
