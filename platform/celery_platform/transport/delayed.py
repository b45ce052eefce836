"""
Keep delayed messages on the server, from publishing until they are due.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from celery_platform.transport.envelope import SERVED, delay_left, dumps
from celery_platform.transport.scripts import PARK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from redis import Redis

    from celery_platform.transport.keys import TransportKeys

__all__ = ["count", "park", "park_command", "purge"]


def park(client: Redis, keys: TransportKeys, key: str, message: dict[str, Any]) -> bool:
    """
    Keep *message* for the list *key* when it is to run in the future; return False when it may run now.
    """
    words = _words(key, message)
    if words is None:
        return False
    PARK.run(client, _keys(keys), words)
    return True


def park_command(keys: TransportKeys, key: str, message: dict[str, Any]) -> tuple[Any, ...] | None:
    """
    Return the words after `EVAL` that do what `park` does, for a pipeline; None when *message* may run now.
    """
    words = _words(key, message)
    return None if words is None else (PARK.text, len(_keys(keys)), *_keys(keys), *words)


def count(client: Redis, keys: TransportKeys, lists: Collection[str]) -> int:
    """
    Return how many delayed messages wait to move to one of *lists*; it looks at every delayed message.
    """
    return sum(1 for _ in _members(client, keys, lists))


def purge(client: Redis, keys: TransportKeys, lists: Collection[str]) -> int:
    """
    Drop the delayed messages of *lists*; return how many there were.
    """
    dropped = 0
    for member in list(_members(client, keys, lists)):
        with client.pipeline() as pipe:
            pipe.zrem(keys.delayed, member)
            pipe.hdel(keys.delayed_messages, member)
            dropped += int(pipe.execute()[0])
    return dropped


def _members(client: Redis, keys: TransportKeys, lists: Collection[str]) -> Iterator[str]:
    for name, _ in client.zscan_iter(keys.delayed, count=1000):
        member = name.decode() if isinstance(name, bytes) else name
        if member.partition("|")[2] in lists:
            yield member


def _keys(keys: TransportKeys) -> list[str]:
    return [keys.delayed, keys.delayed_messages, keys.bell]


def _words(key: str, message: dict[str, Any]) -> tuple[Any, ...] | None:
    left = delay_left(message)
    if not left:
        return None
    # The producer's clock says how long, the server's clock says until when: the two need not agree.
    message["properties"][SERVED] = True
    return left, f"{secrets.token_hex(12)}|{key}", dumps(message)
