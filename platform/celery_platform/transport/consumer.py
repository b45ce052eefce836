"""
Fetch messages under a lease, settle them in batches, and let go of nothing silently.

A `Consumer` is what a kombu channel consumes through, and what a worker's child can use by itself. One round trip
settles what is done and leases the next messages (`lua/exchange.lua`); nothing is ever only in this process's memory.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from celery_platform.transport.casualties import Casualty, Reason
from celery_platform.transport.heart import Heart
from celery_platform.transport.holdings import Exchange, Holdings, Settlement
from celery_platform.transport.intake import unpack
from celery_platform.transport.line import Line
from celery_platform.transport.options import ConsumerOptions
from celery_platform.transport.scripts import EXCHANGE, RENEW
from celery_platform.transport.succession import Succession

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from redis import Redis

    from celery_platform.transport.envelope import Delivery
    from celery_platform.transport.line import HasFileno
    from celery_platform.transport.rotation import Rotation

__all__ = ["Consumer"]

logger = logging.getLogger(__name__)

_STALE = 0.02  # seconds a settlement may wait for a fetch to carry it


class Consumer:
    """
    One owner of leases.

    *client* runs single commands (any thread may use it), *connect* gives the connection to fetch and wait on.
    `fetch`, `wait`, `start_fetch`, `finish_fetch` belong to one thread; settling may happen on any.
    """

    def __init__(
        self,
        client: Redis,
        connect: Callable[[], Any],
        rotation: Rotation,
        options: ConsumerOptions | None = None,
        *,
        owner: str | None = None,
        on_lost: Callable[[Delivery], None] | None = None,
    ) -> None:
        self.client = client
        self.rotation = rotation
        self.options = options or ConsumerOptions()
        self.owner = owner or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.holdings = Holdings()
        self.waiting = False
        self.wake_at = 0.0
        self.eager = False
        self.line = Line(connect)
        self._on_lost = on_lost
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._exchange: Exchange | None = None
        self._request: tuple[list[str], list[str | bytes | int], list[str]] = ([], [], [])
        self._watch = False
        self._broken = False
        self._closed = False
        self._last_chance: str | None = None
        self._succession = Succession(self)
        self._heart = Heart(self)

    @property
    def may_fetch(self) -> bool:
        """Whether more may be asked for: a message on its last chance is held alone."""
        return self._last_chance is None or self._last_chance not in self.holdings.held

    @property
    def asking(self) -> bool:
        """Whether a request is on its way."""
        return self._exchange is not None

    def fetch(self, wanted: int) -> list[Delivery]:
        """
        Return up to *wanted* messages, at once, in one round trip; none when the queues are empty.
        """
        if self._exchange is None:
            self.start_fetch(wanted)
        return self.finish_fetch()

    def wait(self, timeout: float, also: Sequence[HasFileno] = ()) -> bool:
        """
        Sleep until fetching may be worth it, at most *timeout* seconds; return whether something woke us.

        Something to read on one of *also* ends the sleep, too. What is owed is sent first.
        """
        self.flush()
        if not self.waiting:
            return True
        woken = self.line.wait(min(timeout, max(0.0, self.wake_at - time.monotonic())), also)
        if woken or time.monotonic() >= self.wake_at:
            self.stop_waiting()
            return True
        return False

    def start_fetch(self, wanted: int) -> None:
        """
        Send the request for up to *wanted* messages, together with everything owed.
        """
        self._thread = threading.get_ident()
        self.waiting = False
        if self._broken:
            self.reconcile()
            self._broken = False
        lists = self.rotation.lists() if self.may_fetch else []
        exchange = self.holdings.open(wanted if lists else 0)
        self._exchange = exchange
        watch = [*lists, self.options.keys.bell] if self._watch else []
        self._request = self._keys(lists), self._arguments(exchange), watch
        try:
            self.line.ask(EXCHANGE, *self._request)
        except BaseException:
            self._abort()
            raise

    def finish_fetch(self) -> list[Delivery]:
        """
        Read the answer, or the knock that ends waiting; return what may be worked on now.

        Raises:
            redis.exceptions.ConnectionError: the connection broke. What was asked for and never read is given back
                when the next fetch finds the server again.

        """
        exchange = self._exchange
        if exchange is None:
            if self.line.rung():
                self.stop_waiting()
            return []
        try:
            reply, stirred = self._answer()
        except ResponseError as error:
            self._abort()
            self.line.hang_up()
            raise RedisConnectionError(f"The server refused a fetch for {self.owner}: {error}") from error
        except BaseException:
            self._abort()
            raise
        self._exchange = None
        return self._receive(exchange, reply, stirred=stirred)

    def take(self, queue: str) -> Delivery | None:
        """
        Return one message of *queue*, or none; nothing is waited for.
        """
        exchange = self.holdings.open(1)
        reply = self._run(exchange, self.rotation.lists_of(queue))
        deliveries = self._receive(exchange, reply, stirred=True)
        return deliveries[0] if deliveries else None

    def stop_waiting(self) -> None:
        """
        Let the next fetch be sent now.
        """
        self.waiting = False

    def ack(self, field: str) -> None:
        """
        Say that the message *field* is done. It travels with the next fetch, or at once when none is near.
        """
        self.holdings.acknowledge(field)
        self.settle_soon()

    def return_(self, fields: Collection[str]) -> None:
        """
        Put messages back at the head of their queues, in their old order and unblamed.
        """
        ordered = sorted(fields, key=_number, reverse=True)
        self.holdings.settle([Settlement("return", field) for field in ordered])
        self.settle_soon()

    def requeue(self, delivery: Delivery) -> None:
        """
        Put *delivery* back at the head of its queue as one that ended without an outcome: it counts as a death.
        """
        self.holdings.settle([self._succession.verdict(delivery.field, delivery.raw, blamed=True)])
        self.settle_soon()

    def reject(self, delivery: Delivery, reason: Reason = "rejected", error: str = "") -> None:
        """
        Never deliver *delivery* again: its bytes become a casualty.
        """
        casualty = Casualty(reason, delivery.queue, delivery.raw, error, delivery.deaths)
        self.holdings.settle([Settlement("bury", delivery.field, casualty.dumps())])
        self.settle_soon()

    def flush(self) -> None:
        """
        Send everything owed and wait until the server has it.
        """
        if not self.holdings.owes or os.getpid() != self._pid:
            return
        exchange = self.holdings.open(0)
        self._run(exchange, ())
        self.holdings.close(exchange)

    def renew(self, owners: Sequence[str] = ()) -> list[str]:
        """
        Renew this consumer's lease and those of *owners*; return the owners that had lost theirs.
        """
        everyone = [self.owner, *owners]
        quiet = self.holdings.quiet
        keys = [self.options.keys.leases, *(self.options.keys.held(owner) for owner in everyone)]
        expired, *held = RENEW.run(self.client, keys, [self.options.lease_ms, *everyone])
        if quiet and self.holdings.quiet and max(held[0], 0) != len(self.holdings.held):
            self.reconcile()
        if expired and self._succession.look():
            self._succession.reap(expired.decode())
        return [owner for owner, count in zip(everyone, held, strict=True) if count < 0]

    def reclaim(self, owner: str, started: Collection[int] | None = None) -> int:
        """
        Put back everything *owner* held: the caller knows that it is dead. Return how many messages there were.

        *started* are the numbers of what it was working on, the only ones to be blamed; None blames all.
        """
        return self._succession.take_over(owner, force=True, started=started)

    def reconcile(self) -> None:
        """
        Compare the books with the server: give back what a lost reply leased to us, forget what others took over.
        """
        known = self.holdings.compare()
        fields = [name.decode() for name in self.client.hkeys(self.options.keys.held(self.owner))]  # type: ignore[union-attr]
        if strangers := known.strangers(fields):
            logger.warning("Giving back %d messages whose delivery never reached this consumer.", len(strangers))
            self.return_(strangers)
            self.flush()
        for name in known.lost(fields):
            lost = self.holdings.held.pop(name, None)
            if lost is not None:
                logger.warning("The lease on a message of queue %r ran out: another consumer has it.", lost.queue)
                if self._on_lost is not None:
                    self._on_lost(lost)

    def beat(self) -> None:
        """
        Do what is due while the consumer's own thread is busy: renew, send what waits too long, bury the dead.
        """
        if self.holdings.owes:
            self.flush()
        self.renew()

    def close(self, keep: Collection[str] = ()) -> None:
        """
        Give back everything but *keep*, whose leases go on until they are settled, and stop fetching.

        When the server is away, the heart goes on until it has taken everything back. Without a heart another consumer
        takes over when the lease ends.
        """
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        with suppress(RedisError, OSError):
            if self._exchange is not None:
                self.finish_fetch()
        self.return_([name for name in list(self.holdings.held) if name not in keep])
        self.eager = True
        self.settle_soon()
        self.line.hang_up()
        self.outlived()

    def outlived(self) -> bool:
        """
        Return whether a closed consumer has settled all it kept; it then leaves for good.
        """
        if not self._closed or self.holdings.held or self.holdings.owes:
            return False
        try:
            self._leave()
        except (RedisError, OSError) as error:
            logger.debug("%s cannot leave yet: %s", self.owner, error)
            return False
        return True

    def _keys(self, lists: Sequence[str]) -> list[str]:
        keys = self.options.keys
        fixed = [keys.held(self.owner), keys.leases, keys.delayed, keys.delayed_messages, keys.casualties, keys.bell]
        return [*fixed, *lists]

    def _arguments(self, exchange: Exchange) -> list[str | bytes | int]:
        reap = exchange.wanted > 0 and self._succession.look()
        return exchange.arguments(self.owner, self.options.lease_ms, self.options.promote, reap=reap)

    def _run(self, exchange: Exchange, lists: Sequence[str]) -> Any:
        try:
            return EXCHANGE.run(self.client, self._keys(lists), self._arguments(exchange))
        except BaseException:
            self.holdings.abort(exchange)
            self._broken = self._broken or exchange.wanted > 0
            raise

    def _answer(self) -> tuple[Any, bool]:
        try:
            return self.line.answer()
        except NoScriptError:
            self.client.script_load(EXCHANGE.text)
            self.line.ask(EXCHANGE, *self._request)
            return self.line.answer()

    def _abort(self) -> None:
        exchange, self._exchange = self._exchange, None
        self.waiting = False
        if exchange is not None:
            self.holdings.abort(exchange)
            self._broken = True
            self._succession.wait_for_the_living()

    def _receive(self, exchange: Exchange, reply: Any, *, stirred: bool) -> list[Delivery]:
        now, next_due, expired, *batches = reply
        deliveries, settlements = unpack(exchange.first, batches, self.rotation)
        self.holdings.close(exchange, deliveries)
        self.holdings.settle(settlements)
        count = len(deliveries) + len(settlements)
        if exchange.wanted:
            if expired and not self._closed:
                self._succession.reap(expired.decode())
            self._plan(exchange, count, int(next_due) - int(now) if int(next_due) >= 0 else None, stirred=stirred)
        deliveries = self._single_out(deliveries)
        if deliveries and self.options.renew:
            self._heart.start()
        return deliveries

    def _plan(self, exchange: Exchange, count: int, due_in_ms: int | None, *, stirred: bool) -> None:
        watched, self._watch = self._watch, count < exchange.wanted
        if count or stirred or self.holdings.owes or (self.line.tracking and not watched):
            return
        pause = self.options.poll if self.line.tracking else self.options.short_poll
        if due_in_ms is not None:
            pause = min(pause, max(0.0, due_in_ms / 1000))
        self.wake_at = time.monotonic() + pause
        self.waiting = pause > 0

    def _single_out(self, deliveries: list[Delivery]) -> list[Delivery]:
        # Who dies with several messages cannot say which one it was. Before the count runs out, each gets a turn alone.
        last = self.options.delivery_limit - 1
        suspect = next((delivery for delivery in deliveries if delivery.deaths and delivery.deaths >= last), None)
        if suspect is None:
            return deliveries
        others = [delivery.field for delivery in deliveries if delivery is not suspect]
        self.holdings.settle([Settlement("return", field) for field in reversed(others)])
        try:
            self.flush()
        except (RedisError, OSError):
            self.holdings.settle([Settlement("return", suspect.field)])
            return []
        self._last_chance = suspect.field
        return [suspect]

    def settle_soon(self) -> None:
        """
        Send what is owed now, unless a fetch is about to carry it.
        """
        since = self.holdings.owed_since
        if since is None or os.getpid() != self._pid:
            return
        elsewhere = self.waiting and threading.get_ident() != self._thread
        if not (self.eager or elsewhere or time.monotonic() - since > _STALE):
            return
        try:
            self.flush()
        except (RedisError, OSError) as error:
            logger.debug("What is owed could not be sent, and goes with the next fetch: %s", error)

    def _leave(self) -> None:
        if self._broken:
            self.reconcile()
        keys = self.options.keys
        if not self.client.exists(keys.held(self.owner)):
            self.client.zrem(keys.leases, self.owner)
        self._heart.stop()
        self.client.connection_pool.disconnect()


def _number(field: str) -> int:
    return int(field.partition("|")[0])
