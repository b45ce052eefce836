"""
Keep what cannot be delivered until the dead-letter store has it.

A consumer writes the casualty in the same step that takes the message from its hands; whoever drains writes the dead
letter first and removes the casualty second, so that a crash in between repeats a casualty but loses none.
"""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

    from celery_platform.transport.keys import TransportKeys

__all__ = ["Casualty", "Reason", "drain"]

Reason = Literal["undecodable", "poison", "rejected"]


@dataclass(frozen=True, slots=True)
class Casualty:
    """A message nobody will be given again: *raw* is what lay in the list, byte for byte."""

    reason: Reason
    queue: str
    raw: bytes
    error: str = ""
    deaths: int = 0
    at: float = 0.0

    @property
    def id(self) -> str:
        """The same for the same bytes, so that a casualty drained twice is one dead letter."""
        return hashlib.sha256(self.queue.encode() + b"\0" + self.raw).hexdigest()[:32]

    def dumps(self) -> bytes:
        """
        Return the casualty as it lies in its list.
        """
        return orjson.dumps(
            {
                "id": self.id,
                "reason": self.reason,
                "queue": self.queue,
                "raw": base64.b64encode(self.raw).decode(),
                "error": self.error,
                "deaths": self.deaths,
                "at": self.at or time.time(),
            }
        )

    @classmethod
    def loads(cls, record: bytes) -> Casualty:
        """
        Return the casualty written by `dumps`.
        """
        value = orjson.loads(record)
        return cls(
            reason=value["reason"],
            queue=value["queue"],
            raw=base64.b64decode(value["raw"]),
            error=value["error"],
            deaths=value["deaths"],
            at=value["at"],
        )


def drain(client: Redis, keys: TransportKeys, bury: Callable[[Casualty], object], *, limit: int = 100) -> int:
    """
    Give up to *limit* casualties to *bury*, removing each once it has returned; return how many there were.

    An exception of *bury* leaves its casualty, and those behind it, in place.
    """
    drained = 0
    for record, casualty in _peek(client, keys, limit):
        bury(casualty)
        client.lrem(keys.casualties, 1, record)  # type: ignore[arg-type]
        drained += 1
    return drained


def _peek(client: Redis, keys: TransportKeys, limit: int) -> Iterator[tuple[bytes, Casualty]]:
    records: list[bytes] = client.lrange(keys.casualties, 0, limit - 1)  # type: ignore[assignment]
    for record in records:
        yield record, Casualty.loads(record)
