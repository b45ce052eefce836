"""
Keep what could not be done, with its reason, so that nothing is ever dropped.
"""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from celery_platform.clock import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celery_platform.clock import Clock
    from celery_platform.stores.base import Graves

__all__ = ["DeadLetter", "DeadLetters", "traceback_of"]

_TRACEBACK_BYTES = 16_384
_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """
    One buried call.

    *reason* is its code (docs/lifecycle.md lists them); *error* the class and the scrubbed message; *buried_at* a Unix
    time in seconds. *argsrepr* and *kwargsrepr* are safe to show; *message* is what a replay needs (headers and body)
    and is never listed.
    """

    id: str
    call_id: str
    task: str
    queue: str | None
    reason: str
    error: str
    buried_at: float
    attempts: int
    deliveries: int
    deferrals: int = 0
    group: str = ""
    worker: str | None = None
    traceback: str = ""
    argsrepr: str = ""
    kwargsrepr: str = ""
    message: dict[str, Any] = field(default_factory=dict, repr=False)

    def listing(self) -> dict[str, Any]:
        """
        Return what may be shown: everything but the payload.
        """
        shown = asdict(self)
        del shown["message"]
        return shown

    def to_json(self) -> bytes:
        """
        Return the whole record as JSON.
        """
        return json.dumps(asdict(self), default=str).encode()

    @classmethod
    def from_json(cls, record: bytes) -> DeadLetter:
        """
        Return the letter kept in *record*; fields of a newer version are ignored.
        """
        fields = json.loads(record)
        return cls(**{name: value for name, value in fields.items() if name in cls.__slots__})


class DeadLetters:
    """
    Bury letters and read them back.

    *ttl* is how long a letter is kept, in seconds.
    """

    def __init__(self, graves: Graves, *, ttl: float, clock: Clock = SYSTEM) -> None:
        self._graves = graves
        self._ttl = ttl
        self._clock = clock

    def bury(self, letter: DeadLetter) -> bool:
        """
        Keep *letter*; the same id twice is one letter, and the answer is whether it was new.

        Raises `StoreError` when the store cannot be reached: the call must not be acknowledged then.
        """
        return self._graves.bury(letter.id, letter.to_json(), at=letter.buried_at, ttl=self._ttl)

    def newest(self, limit: int = 50, *, where: Callable[[DeadLetter], bool] | None = None) -> Sequence[DeadLetter]:
        """
        Return at most *limit* letters, the newest first; *where* picks among them.
        """
        if where is None:
            return [DeadLetter.from_json(record) for record in self._graves.letters(limit=limit)]
        return list(islice(filter(where, self._all()), limit))

    def _all(self) -> Iterator[DeadLetter]:
        for start in count(0, _PAGE):
            page = self._graves.letters(limit=_PAGE, start=start)
            yield from map(DeadLetter.from_json, page)
            # A page may be short of letters that have just expired; only an empty one is the last.
            if not page:
                return

    def find(self, letter_id: str) -> DeadLetter | None:
        """
        Return the letter *letter_id*, or nothing.
        """
        record = self._graves.letter(letter_id)
        return None if record is None else DeadLetter.from_json(record)

    def count(self) -> int:
        """
        Return how many letters are kept.
        """
        return self._graves.count()


def traceback_of(error: BaseException) -> str:
    """
    Return the end of the traceback of *error*, at most 16 KiB: the innermost frames matter.
    """
    text = "".join(traceback.format_exception(error))
    return text[-_TRACEBACK_BYTES:]
