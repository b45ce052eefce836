"""
Remember how far a replay has come, and how its first calls ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_platform.stores.redis import told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_platform.stores.redis import RedisStore

__all__ = ["RedisReplays"]

_REMEMBERED = 30 * 86_400
_ENDS = 86_400


class RedisReplays:
    """
    The replays of one namespace. Every method raises `StoreError` when the server cannot be reached.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._of = store.keys.of_dead

    def begin(self, name: str, facts: Mapping[str, str], *, anew: bool) -> dict[str, str]:
        """
        Start the replay *name* with *facts*, or go on with it; return what is known of it then.

        *anew* forgets one that has ended; a running one always goes on.
        """
        with told():
            known = self.read(name)
            if known and (known.get("state") == "running" or not anew):
                return known
            pipe = self._store.client.pipeline(transaction=True)
            pipe.delete(self._of("replay", name), self._of("ends", name))
            known = {**facts, "state": "running", "sent": "0"}
            pipe.hset(self._of("replay", name), mapping=known)  # type: ignore[arg-type]
            pipe.expire(self._of("replay", name), _REMEMBERED)
            pipe.execute()
        return self.read(name)

    def read(self, name: str) -> dict[str, str]:
        """
        Return what is known of a replay; nothing when there was none in thirty days.
        """
        with told():
            found: Any = self._store.client.hgetall(self._of("replay", name))
            return {_text(field): _text(value) for field, value in found.items()}

    def set(self, name: str, **facts: str) -> None:
        """
        Keep *facts* of a replay.
        """
        with told():
            self._store.client.hset(self._of("replay", name), mapping=facts)  # type: ignore[arg-type]

    def expect(self, name: str, call_id: str) -> None:
        """
        Note that the end of *call_id* is waited for.
        """
        with told():
            pipe = self._store.client.pipeline(transaction=True)
            pipe.hsetnx(self._of("ends", name), call_id, "")
            pipe.expire(self._of("ends", name), _ENDS)
            pipe.execute()

    def ended(self, name: str, call_id: str, state: str) -> None:
        """
        Note how *call_id* ended.
        """
        with told():
            self._store.client.hset(self._of("ends", name), call_id, state)

    def ends(self, name: str) -> dict[str, str]:
        """
        Return the calls whose end is waited for, each with its end or an empty text.
        """
        with told():
            found: Any = self._store.client.hgetall(self._of("ends", name))
            return {_text(call_id): _text(state) for call_id, state in found.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
