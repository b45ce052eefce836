"""
The seams between the story and its shared state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Graves"]


class Graves(Protocol):
    """Where dead letters lie; records are opaque bytes to the store."""

    def bury(self, letter_id: str, record: bytes, *, at: float, ttl: float) -> bool:
        """
        Keep *record* for *ttl* seconds; answer whether it is new. The same id twice is one letter.

        Raises `StoreError` when the store cannot be reached.
        """

    def letters(self, *, limit: int, start: int = 0) -> Sequence[bytes]:
        """
        Return the newest records, at most *limit*, without the *start* newest.
        """

    def letter(self, letter_id: str) -> bytes | None:
        """
        Return one record, or nothing.
        """

    def count(self) -> int:
        """
        Return how many letters lie here.
        """
