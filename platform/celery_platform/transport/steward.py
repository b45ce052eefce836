"""
Act for consumers that cannot act themselves: those whose process is busy, or dead.

A parent knows what its children hold and what becomes of it. Everything here is done in the name of another owner, and
is harmless when that owner does the same once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_platform.transport.holdings import Exchange, Settlement
from celery_platform.transport.scripts import EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from celery_platform.transport.consumer import Consumer

__all__ = ["Steward"]


class Steward:
    """The hands of a consumer that fetches nothing itself."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    @property
    def lease(self) -> float:
        """How many seconds a silent owner keeps what it holds."""
        return self._consumer.options.lease

    def held(self, owner: str) -> dict[int, tuple[str, bytes]]:
        """
        Return what *owner* holds, oldest first: number, field, and the message as it lay in its list.
        """
        found: Any = self._consumer.client.hgetall(self._consumer.options.keys.held(owner))
        fields: dict[str, bytes] = {name.decode(): raw for name, raw in found.items()}
        numbered = sorted((int(name.partition("|")[0]), name, raw) for name, raw in fields.items())
        return {number: (name, raw) for number, name, raw in numbered}

    def acknowledge(self, owner: str, fields: Iterable[str]) -> None:
        """
        Strike *fields*: their work is done.
        """
        self._settle(owner, acknowledged=list(fields))

    def give_back(self, owner: str, fields: Sequence[str]) -> None:
        """
        Put *fields*, oldest first, back at the head of their queues, unblamed.
        """
        self._settle(owner, settled=[Settlement("return", field) for field in reversed(fields)])

    def renew(self, owners: Sequence[str]) -> list[str]:
        """
        Renew the leases of *owners*; return those that had lost theirs.
        """
        return self._consumer.renew(owners)

    def reclaim(self, owner: str, started: Collection[int] = ()) -> int:
        """
        Put back everything the dead *owner* held, and blame the numbers in *started*; return how many there were.
        """
        return self._consumer.reclaim(owner, started)

    def close(self) -> None:
        """
        Leave.
        """
        self._consumer.close()

    def _settle(self, owner: str, *, acknowledged: Sequence[str] = (), settled: Sequence[Settlement] = ()) -> None:
        if not acknowledged and not settled:
            return
        options = self._consumer.options
        keys = options.keys
        exchange = Exchange(wanted=0, first=0, acknowledged=list(acknowledged), settled=list(settled))
        names = [keys.held(owner), keys.leases, keys.delayed, keys.delayed_messages, keys.casualties, keys.bell]
        EXCHANGE.run(self._consumer.client, names, exchange.arguments(owner, options.lease_ms, 0, reap=False))
