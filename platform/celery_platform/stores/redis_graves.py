"""
Keep dead letters on Redis: every change is one script, every listing walks an index.
"""

from __future__ import annotations

from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from celery_platform.stores.base import Burial, GroupRow, Inquiry, Taken
from celery_platform.stores.redis import told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from redis import Redis

    from celery_platform.stores.base import Grave
    from celery_platform.stores.redis import RedisStore

__all__ = ["RedisGraves"]

_TAGS = ("task", "queue", "reason", "group", "key")
_SCRIPTS = ("bury", "unearth", "hold", "amend", "take", "sent", "groups")
_SWEPT = 500
_PAGE = 1000
# How many letters that were sent again are remembered, without their payload.
REMEMBERED = 10_000


class RedisGraves:
    """
    The dead letters of one namespace on the server of *store*.

    Every method raises `StoreError` when the server cannot be reached.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self.keys = store.keys

    def bury(self, grave: Grave) -> Burial:
        """
        Keep a record. The same id twice is one letter, and the first record stays.
        """
        bounds = grave.bounds
        new, new_group, dropped = self._run(
            "bury",
            (self.keys.dead, self.keys.books),
            grave.id,
            grave.record,
            _ms(grave.at),
            max(_ms(grave.ttl), 1),
            *(bounds.count, bounds.size, bounds.total),
            grave.label,
            int(grave.counted),
            *(grave.tags.get(tag, "") for tag in _TAGS),
        )
        return Burial(bool(new), bool(new_group), int(dropped))

    def ids(self, inquiry: Inquiry, *, limit: int, start: int = 0) -> Sequence[str]:
        """
        Return the ids of open letters, the newest first, at most *limit*, without the *start* newest.
        """
        self._sweep()
        with told():
            found: list[str] = []
            for page in self._pages(inquiry, start if len(inquiry.tags) < 2 else 0):  # noqa: PLR2004
                found += page
                if len(found) >= limit + (start if len(inquiry.tags) > 1 else 0):
                    break
            skipped = start if len(inquiry.tags) > 1 else 0
            return found[skipped : skipped + limit]

    def records(self, ids: Sequence[str]) -> Sequence[bytes | None]:
        """
        Return the records of *ids*, open or sent, in their order; nothing for one that is gone.
        """
        self._sweep()
        with told():
            pipe = self._client.pipeline(transaction=False)
            for letter_id in ids:
                pipe.hget(self.keys.dead_letter(letter_id), "record")
            found: list[bytes | None] = pipe.execute() if ids else []
            return found

    def sent_ids(self, limit: int) -> Sequence[str]:
        """
        Return the ids of letters that were sent again, the last first.
        """
        self._sweep()
        with told():
            found: Any = self._client.zrevrange(self.keys.of_dead("replayed"), 0, limit - 1)
            return [_text(letter_id) for letter_id in found]

    def count(self, inquiry: Inquiry) -> int:
        """
        Return how many open letters there are.
        """
        self._sweep()
        with told():
            if len(inquiry.tags) < 2:  # noqa: PLR2004 - one index has the answer
                index = self._index(inquiry)
                return int(self._client.zcount(index, *_span(inquiry)))
            return sum(len(page) for page in self._pages(inquiry, 0))

    def groups(self, limit: int) -> Sequence[GroupRow]:
        """
        Return the groups that have open letters, the one with the newest letter first.
        """
        self._sweep()
        rows = self._run("groups", (self.keys.dead,), limit)
        return [_group(*(_text(cell) for cell in row)) for row in rows]

    def remove(self, ids: Sequence[str]) -> int:
        """
        Forget letters; return how many there were. One that is held stays.
        """
        parts = [ids[first : first + _SWEPT] for first in range(0, len(ids), _SWEPT)]
        return sum(int(self._run("unearth", (self.keys.dead,), 0, *part)[1]) for part in parts)

    def amend(self, letter_id: str, record: bytes) -> bool:
        """
        Put *record* in the place of an open letter's; answer whether there was one.
        """
        return bool(self._run("amend", (self.keys.dead,), letter_id, record))

    def hold(self, ids: Sequence[str], *, on: bool, ttl: float) -> int:
        """
        Keep letters from every removal, or end that and give them *ttl* seconds more; return how many there were.
        """
        return int(self._run("hold", (self.keys.dead,), int(on), _ms(ttl), *ids))

    def held(self, letter_id: str) -> bool:
        """
        Tell whether a letter is held.
        """
        with told():
            return bool(self._client.hexists(self.keys.dead_letter(letter_id), "held"))

    def is_open(self, letter_id: str) -> bool:
        """
        Tell whether a letter is kept and was not sent again.
        """
        self._sweep()
        with told():
            return self._client.zscore(self.keys.dead, letter_id) is not None

    def take(self, letter_id: str, call_id: str) -> Taken:
        """
        Claim a letter for sending it as *call_id*; a claim that was never finished is given again, with its call.
        """
        state, call = self._run("take", (self.keys.dead,), letter_id, call_id)
        return Taken(_text(state), _text(call))

    def sent(self, letter_id: str, record: bytes, *, queue: str, replay: str) -> bool:
        """
        Close a letter that was sent; *record* takes its place. Answers False when it was closed before.
        """
        keys = (self.keys.dead, self.keys.books, self.keys.of_dead("replay", replay))
        return bool(self._run("sent", keys, letter_id, record, queue, REMEMBERED))

    def truncated(self) -> Mapping[str, int]:
        """
        Return how many letters of each task have left before their time.
        """
        with told():
            found: Any = self._client.hgetall(self.keys.of_dead("truncated"))
            return {_text(task): int(count) for task, count in found.items()}

    def _pages(self, inquiry: Inquiry, start: int) -> Iterator[list[str]]:
        low, high = _span(inquiry)
        index = self._index(inquiry)
        while True:
            found: Any = self._client.zrevrangebyscore(index, high, low, start=start, num=_PAGE)
            if not found:
                return
            yield self._fitting([_text(letter_id) for letter_id in found], inquiry)
            start += _PAGE

    def _fitting(self, ids: list[str], inquiry: Inquiry) -> list[str]:
        if len(inquiry.tags) < 2:  # noqa: PLR2004 - the index said it all
            return ids
        pipe = self._client.pipeline(transaction=False)
        for letter_id in ids:
            pipe.hmget(self.keys.dead_letter(letter_id), list(inquiry.tags))
        wanted = list(inquiry.tags.values())
        rows: list[list[bytes | None]] = pipe.execute()
        return [
            letter_id
            for letter_id, row in zip(ids, rows, strict=True)
            if [None if value is None else _text(value) for value in row] == wanted
        ]

    def _index(self, inquiry: Inquiry) -> str:
        if not inquiry.tags:
            return self.keys.dead
        names = [self.keys.of_dead("by", tag, value) for tag, value in inquiry.tags.items()]
        if len(names) == 1:
            return names[0]
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.zcard(name)
        sizes: list[int] = pipe.execute()
        return min(zip(sizes, names, strict=True))[1]

    def _sweep(self) -> None:
        while int(self._run("unearth", (self.keys.dead,), _SWEPT)[0]) == _SWEPT:
            pass

    @cached_property
    def _scripts(self) -> dict[str, Any]:
        folder = files("celery_platform.stores") / "lua"
        shared = (folder / "graves.lua").read_text()
        texts = {name: shared + (folder / f"{name}.lua").read_text() for name in _SCRIPTS}
        return {name: self._client.register_script(text) for name, text in texts.items()}

    @property
    def _client(self) -> Redis:
        return self._store.client

    def _run(self, script: str, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        with told():
            return self._scripts[script](keys=keys, args=arguments)


def _group(*cells: str) -> GroupRow:
    group, task, reason, error, count, total, first, last, sample = cells
    return GroupRow(group, task, reason, error, int(count), int(total), float(first) / 1000, float(last) / 1000, sample)


def _span(inquiry: Inquiry) -> tuple[str, str]:
    low = "-inf" if inquiry.since is None else str(_ms(inquiry.since))
    high = "+inf" if inquiry.until is None else f"({_ms(inquiry.until)}"
    return low, high


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
