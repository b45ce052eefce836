"""
The twin of the Redis store in this process's memory, for tests and eager mode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_platform.clock import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_platform.clock import Clock

__all__ = ["MemoryGraves"]


class MemoryGraves:
    """Dead letters in a dict."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._letters: dict[str, tuple[float, float, bytes]] = {}

    def bury(self, letter_id: str, record: bytes, *, at: float, ttl: float) -> bool:
        """
        Keep *record* for *ttl* seconds; answer whether it is new.
        """
        self._expire()
        if letter_id in self._letters:
            return False
        self._letters[letter_id] = (at, self._clock.now() + ttl, record)
        return True

    def letters(self, *, limit: int, start: int = 0) -> Sequence[bytes]:
        """
        Return the newest records, at most *limit*, without the *start* newest.
        """
        self._expire()
        return [record for _, _, record in sorted(self._letters.values(), reverse=True)[start : start + limit]]

    def letter(self, letter_id: str) -> bytes | None:
        """
        Return one record, or nothing.
        """
        self._expire()
        found = self._letters.get(letter_id)
        return found[2] if found else None

    def count(self) -> int:
        """
        Return how many letters lie here.
        """
        self._expire()
        return len(self._letters)

    def _expire(self) -> None:
        now = self._clock.now()
        self._letters = {key: value for key, value in self._letters.items() if value[1] > now}
