"""
Measure queues: how deep, how old, who consumes; a handful of commands however many calls wait.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amqp.exceptions import NotFound

from celery_platform.stores.redis import connect, told
from celery_platform.transport.keys import TransportKeys
from celery_platform.transport.scripts import DEPTHS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis import Redis

    from celery_platform.celery_app import PlatformCelery

__all__ = ["Backlog", "Depths", "QueueDepth", "RabbitDepths", "RedisDepths", "depths_of"]

_SEPARATOR = "\x06\x16"


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """
    One queue: *depth* calls could run now, the next of them since *oldest* seconds; *consumers* take from it.

    None stands where the broker does not say: the age on RabbitMQ, and of a call whose producer knows no platform;
    the consumers on Redis.
    """

    name: str
    depth: int
    oldest: float | None = None
    consumers: int | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """
    All queues at one moment, and what is in none of them; None where the broker does not say.

    *delayed* calls wait for their time, the first of them *overdue* seconds late; *leased* ones are in the hands of
    *holders* workers, *lapsed* of which have let their lease end; *casualties* wait to become dead letters.
    """

    queues: Sequence[QueueDepth]
    delayed: int | None = None
    overdue: float | None = None
    leased: int | None = None
    holders: int | None = None
    lapsed: int | None = None
    casualties: int | None = None


class Depths(ABC):
    """Who can measure the queues of one broker."""

    @abstractmethod
    def read(self, queues: Sequence[str]) -> Backlog:
        """
        Measure *queues*, in their order.

        Raises `StoreError`, or an error of the connection, when the broker cannot be reached.
        """


class RedisDepths(Depths):
    """The queues on the Redis of *client*: six commands, whatever waits."""

    def __init__(
        self, client: Redis, keys: TransportKeys, steps: Sequence[int], *, prefix: str = "", sep: str = _SEPARATOR
    ) -> None:
        self._client = client
        self._keys = keys
        self._steps = steps
        self._prefix = prefix
        self._sep = sep

    def read(self, queues: Sequence[str]) -> Backlog:
        """
        Measure *queues*; the age counts from when the call first could have run.
        """
        lists = [self._list(name, step) for name in queues for step in self._steps]
        keys = self._keys
        with told():
            now, *measured = DEPTHS.run(self._client, lists, ())
            at = float(now)
            pipe = self._client.pipeline(transaction=False)
            pipe.zcard(keys.delayed)
            pipe.zrange(keys.delayed, 0, 0, withscores=True)
            pipe.llen(keys.casualties)
            pipe.zcount(keys.leases, "-inf", at * 1000)
            pipe.zrange(keys.leases, 0, -1)
            delayed, first, casualties, lapsed, owners = pipe.execute()
            leased = self._leased(owners)
        return Backlog(
            queues=list(self._depths(queues, measured, at)),
            delayed=delayed,
            overdue=max(0.0, at - first[0][1] / 1000) if first else 0.0,
            leased=leased,
            holders=len(owners),
            lapsed=lapsed,
            casualties=casualties,
        )

    def _leased(self, owners: list[bytes]) -> int:
        pipe = self._client.pipeline(transaction=False)
        for owner in owners:
            pipe.hlen(self._keys.held(owner.decode()))
        return sum(pipe.execute()) if owners else 0

    def _depths(self, queues: Sequence[str], measured: list[Any], now: float) -> Iterator[QueueDepth]:
        width = len(self._steps)
        for index, name in enumerate(queues):
            lists = measured[index * width : (index + 1) * width]
            since = [float(text) for _, text in lists if text]
            oldest = max(0.0, now - min(since)) if since else None
            depth = sum(length for length, _ in lists)
            yield QueueDepth(name, depth, oldest if depth else 0.0)

    def _list(self, queue: str, step: int) -> str:
        return f"{self._prefix}{queue}{self._sep}{step}" if step else f"{self._prefix}{queue}"


class RabbitDepths(Depths):
    """The queues of RabbitMQ: one passive declaration each, which also tells the consumers."""

    def __init__(self, app: PlatformCelery) -> None:
        self._app = app
        self._connection: Any = None

    def read(self, queues: Sequence[str]) -> Backlog:
        """
        Measure *queues*; one that is not declared yet is empty.
        """
        try:
            return Backlog(queues=[self._depth(name) for name in queues])
        except Exception:
            self._hang_up()
            raise

    def _depth(self, name: str) -> QueueDepth:
        if self._connection is None:
            self._connection = self._app.connection_for_read(transport_options={"read_timeout": 5.0})
        channel = self._connection.default_channel
        try:
            found = channel.queue_declare(queue=name, passive=True)
        except NotFound:
            self._hang_up()
            return QueueDepth(name, 0, None, 0)
        return QueueDepth(name, found.message_count, 0.0 if not found.message_count else None, found.consumer_count)

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.collect()


def depths_of(app: PlatformCelery) -> Depths:
    """
    Return who measures the queues of *app*'s broker; it keeps one connection.
    """
    platform = app.platform
    if not platform.settings.is_redis:
        return RabbitDepths(app)
    options = app.conf.broker_transport_options
    prefix = options.get("global_keyprefix", "")
    platform.prepare()
    return RedisDepths(
        connect(platform.broker_url),
        TransportKeys(f"{prefix}{options.get('namespace', 'platform')}:"),
        options.get("priority_steps") or (0,),
        prefix=prefix,
        sep=options.get("sep", _SEPARATOR),
    )
