"""
Decide what becomes of the messages of a dead consumer.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol

from celery_platform import events
from celery_platform.transport.casualties import Casualty
from celery_platform.transport.envelope import DEATHS, Undecodable, loads, with_death
from celery_platform.transport.holdings import Holdings, Settlement
from celery_platform.transport.scripts import TAKE_OVER

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis import Redis

    from celery_platform.transport.options import ConsumerOptions
    from celery_platform.transport.rotation import Rotation

__all__ = ["Heir", "Succession"]

logger = logging.getLogger(__name__)

_AT_ONCE = 100
_EVERY = 0.5  # seconds between two looks for ended leases
_GRACE = 5.0  # seconds after an outage in which the living may renew before anyone is declared dead


class Heir(Protocol):
    """Who takes over."""

    owner: str
    client: Redis
    options: ConsumerOptions
    holdings: Holdings
    rotation: Rotation

    def flush(self) -> None:
        """
        Send what is owed.
        """


class Succession:
    """
    The taking over of a dead consumer's messages.

    They are leased to the heir in one step and put back by it in a second; should the heir die between the two, its own
    heir does the same.
    """

    def __init__(self, heir: Heir) -> None:
        self._heir = heir
        self._look_from = 0.0

    def look(self) -> bool:
        """
        Return whether it is time to look for ended leases; True only now and then.
        """
        now = time.monotonic()
        due = now >= self._look_from
        if due:
            self._look_from = now + min(_EVERY, self._heir.options.lease / 10)
        return due

    def wait_for_the_living(self) -> None:
        """
        Declare nobody dead for a while: the server was away, and nobody could renew.
        """
        self._look_from = time.monotonic() + min(_GRACE, self._heir.options.lease)

    def reap(self, dead: str) -> None:
        """
        Take over from *dead*, whose lease has ended, and look for another one next time.
        """
        self.take_over(dead)
        self._look_from = 0.0

    def take_over(self, dead: str, *, force: bool = False, started: Collection[int] | None = None) -> int:
        """
        Put back at the head of its queue everything *dead* held; return how many messages that were.

        Each counts one death more, or only those whose number is in *started*. One that reaches the delivery limit
        becomes a casualty instead.
        """
        total, remain = 0, 1
        while remain:
            remain, taken = self._step(dead, force=force, started=started)
            total += taken
        if total:
            logger.warning("Took over %d messages of the dead consumer %s.", total, dead)
            events.emit(events.LeaseTakenOver(holder=dead, messages=total))
        return total

    def _step(self, dead: str, *, force: bool, started: Collection[int] | None) -> tuple[int, int]:
        heir = self._heir
        keys, holdings = heir.options.keys, heir.holdings
        exchange = holdings.open(_AT_ONCE, carry=False)
        try:
            remain, *flat = TAKE_OVER.run(
                heir.client,
                [keys.leases, keys.held(dead), keys.held(heir.owner)],
                [dead, heir.owner, heir.options.lease_ms, exchange.first, _AT_ONCE, int(force)],
            )
            taken = list(zip(flat[::2], flat[1::2], strict=True))
            settlements = []
            for index, (old, raw) in enumerate(taken):
                number, _, key = old.decode().partition("|")
                blamed = started is None or int(number) in started
                settlements.append((int(number), self.verdict(f"{exchange.first + index}|{key}", raw, blamed=blamed)))
            # The oldest is put back last, and so stands first again.
            settlements.sort(key=lambda pair: pair[0], reverse=True)
            holdings.settle(settlement for _, settlement in settlements)
        finally:
            holdings.close(exchange)
        heir.flush()
        return int(remain), len(taken)

    def verdict(self, field: str, raw: bytes, *, blamed: bool) -> Settlement:
        """
        Return what becomes of the message *raw*, held by us as *field*, after a delivery that had no outcome.
        """
        if not blamed:
            return Settlement("return", field)
        queue = self._heir.rotation.queue_of(field.partition("|")[2])
        try:
            message = loads(raw)
        except Undecodable as error:
            return Settlement("bury", field, Casualty("undecodable", queue, raw, str(error)).dumps())
        before = message["properties"].get(DEATHS, 0)
        deaths = (before if isinstance(before, int) else 0) + 1
        limit = self._heir.options.delivery_limit
        if deaths < limit:
            return Settlement("replace", field, with_death(message, deaths))
        why = f"{deaths} deliveries ended without an outcome, the limit is {limit}"
        return Settlement("bury", field, Casualty("poison", queue, raw, why, deaths).dumps())
