"""
Keep the books of one consumer: what it holds, and what it owes the server.

No input or output happens here. An `Exchange` is one request to the server: it carries settlements there and brings
messages back. Until its reply is read it is *open*; when the connection breaks first, nobody knows whether it was
applied, and everything it carried is owed again: each settlement is harmless when repeated.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from celery_platform.transport.envelope import Delivery

__all__ = ["Exchange", "Holdings", "Settlement"]

Verb = Literal["return", "replace", "park", "bury"]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of one message, other than being acknowledged; *a* and *b* as in `exchange.lua`."""

    verb: Verb
    field: str
    a: bytes | int = b""
    b: bytes = b""


@dataclass(slots=True, eq=False)
class Exchange:
    """One request: settle these, and lease up to *wanted* messages numbered from *first*."""

    wanted: int
    first: int
    acknowledged: list[str] = field(default_factory=list)
    settled: list[Settlement] = field(default_factory=list)

    def arguments(self, owner: str, lease_ms: int, promote: int, *, reap: bool) -> list[str | bytes | int]:
        """
        Return the arguments of `exchange.lua`.
        """
        words: list[str | bytes | int] = [owner, lease_ms, self.wanted, self.first, promote, int(reap)]
        words += [len(self.acknowledged), *self.acknowledged]
        for settlement in self.settled:
            words += (settlement.verb, settlement.field, settlement.a, settlement.b)
        return words


class Holdings:
    """The books. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.held: dict[str, Delivery] = {}
        self.owed_since: float | None = None
        self._lock = threading.Lock()
        self._next = 0
        self._acknowledged: list[str] = []
        self._settled: list[Settlement] = []
        self._open: set[Exchange] = set()

    @property
    def owes(self) -> bool:
        """Whether some settlement has not been sent."""
        return self.owed_since is not None

    @property
    def deciding(self) -> bool:
        """Whether a settlement other than an acknowledgement is not known to have reached the server."""
        with self._lock:
            return bool(self._settled) or any(exchange.settled for exchange in self._open)

    @property
    def quiet(self) -> bool:
        """Whether the server's view and these books can be compared: nothing is open and nothing owed."""
        return not self._open and not self.owes

    def acknowledge(self, name: str) -> None:
        """
        Strike *name*: its work is done.
        """
        with self._lock:
            self.held.pop(name, None)
            self._acknowledged.append(name)
            if self.owed_since is None:
                self.owed_since = time.monotonic()

    def acknowledge_all(self, names: Sequence[str]) -> None:
        """
        Strike all *names*: their work is done.
        """
        with self._lock:
            for name in names:
                self.held.pop(name, None)
            self._acknowledged += names
            if self.owed_since is None:
                self.owed_since = time.monotonic()

    def settle(self, settlements: Iterable[Settlement]) -> None:
        """
        Strike what *settlements* are about; they are applied by the server in this order.
        """
        with self._lock:
            for settlement in settlements:
                self.held.pop(settlement.field, None)
                self._settled.append(settlement)
                if self.owed_since is None:
                    self.owed_since = time.monotonic()

    def open(self, wanted: int, *, carry: bool = True) -> Exchange:
        """
        Return a request for up to *wanted* messages; it carries everything owed, unless *carry* is false.
        """
        with self._lock:
            exchange = Exchange(wanted, self._next)
            self._next += wanted
            if carry:
                exchange.acknowledged, exchange.settled = self._acknowledged, self._settled
                self._acknowledged, self._settled, self.owed_since = [], [], None
            self._open.add(exchange)
            return exchange

    def close(self, exchange: Exchange, deliveries: Iterable[Delivery] = ()) -> None:
        """
        Enter what *exchange* brought.
        """
        with self._lock:
            self._open.discard(exchange)
            for delivery in deliveries:
                self.held[delivery.field] = delivery

    def abort(self, exchange: Exchange) -> None:
        """
        Owe again what *exchange* carried: its reply was lost.
        """
        with self._lock:
            self._open.discard(exchange)
            self._acknowledged[:0] = exchange.acknowledged
            self._settled[:0] = exchange.settled
            if (self._acknowledged or self._settled) and self.owed_since is None:
                self.owed_since = time.monotonic()

    def compare(self) -> Comparison:
        """
        Return what is known now, to be compared with what the server will say it holds.
        """
        with self._lock:
            ranges = [range(exchange.first, exchange.first + exchange.wanted) for exchange in self._open]
            return Comparison(dict(self.held), self._next, ranges)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The books at one moment."""

    held: dict[str, Delivery]
    next: int
    open: list[range]

    def strangers(self, fields: Iterable[str]) -> list[str]:
        """
        Return those of *fields* that the server holds for us although we were never told: their reply was lost.
        """
        return [name for name in fields if name not in self.held and self._closed(int(name.partition("|")[0]))]

    def lost(self, fields: Iterable[str]) -> list[str]:
        """
        Return what we believe to hold although the server has given it to someone else.
        """
        server = set(fields)
        return [name for name in self.held if name not in server]

    def _closed(self, number: int) -> bool:
        return number < self.next and not any(number in numbers for numbers in self.open)
