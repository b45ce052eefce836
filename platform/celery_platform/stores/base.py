"""
The seams between the story and its shared state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["UNBOUNDED", "Bounds", "Burial", "Grave", "Graves", "GroupRow", "Inquiry", "Journal", "Taken"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """At most *count* letters and *size* bytes of one task, and *total* bytes of all; 0 means without bound."""

    count: int = 0
    size: int = 0
    total: int = 0


UNBOUNDED = Bounds()


@dataclass(frozen=True, slots=True)
class Grave:
    """
    One record to keep: opaque bytes, and what it is found by.

    *at* is its time (Unix s), *ttl* how long it is kept from now (s). *tags* may be task, queue, reason, group and key.
    *label* is what its group shows of it. *counted* tells that no producer has entered its call in the books.
    """

    id: str
    record: bytes
    at: float
    ttl: float
    tags: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    bounds: Bounds = UNBOUNDED
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Burial:
    """What a burial did: the letter was *new*, its group was, and *dropped* older ones had to leave for it."""

    new: bool
    new_group: bool = False
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Which open letters are asked for: those with all *tags*, from *since* on, before *until* (Unix s)."""

    tags: Mapping[str, str] = field(default_factory=dict)
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class GroupRow:
    """
    One kind of error: *count* open letters of *total* ever.

    *first* and *last* are Unix times (s), *sample* the id of the newest letter.
    """

    group: str
    task: str
    reason: str
    error: str
    count: int
    total: int
    first: float
    last: float
    sample: str


@dataclass(frozen=True, slots=True)
class Taken:
    """
    Whether a letter may be sent now.

    *state* is ``claimed``, ``sent`` (it was already) or ``gone``; *call_id* is its new call.
    """

    state: str
    call_id: str = ""


class Graves(Protocol):
    """
    Where dead letters lie; records are opaque bytes to the store.

    A letter is *open* until it is removed, expires, or has been sent again. Every method raises `StoreError` when the
    store cannot be reached.
    """

    def bury(self, grave: Grave) -> Burial:
        """
        Keep a record. The same id twice is one letter, and the first record stays.
        """

    def ids(self, inquiry: Inquiry, *, limit: int, start: int = 0) -> Sequence[str]:
        """
        Return the ids of open letters, the newest first, at most *limit*, without the *start* newest.
        """

    def records(self, ids: Sequence[str]) -> Sequence[bytes | None]:
        """
        Return the records of *ids*, open or sent, in their order; nothing for one that is gone.
        """

    def sent_ids(self, limit: int) -> Sequence[str]:
        """
        Return the ids of letters that were sent again, the last first.
        """

    def count(self, inquiry: Inquiry) -> int:
        """
        Return how many open letters there are; of several tags, those of the rarest are looked at one by one.
        """

    def groups(self, limit: int) -> Sequence[GroupRow]:
        """
        Return the groups that have open letters, the one with the newest letter first.
        """

    def remove(self, ids: Sequence[str]) -> int:
        """
        Forget letters; return how many there were. One that is held stays.
        """

    def amend(self, letter_id: str, record: bytes) -> bool:
        """
        Put *record* in the place of an open letter's; answer whether there was one.
        """

    def hold(self, ids: Sequence[str], *, on: bool, ttl: float) -> int:
        """
        Keep letters from every removal, or end that and give them *ttl* seconds more; return how many there were.
        """

    def held(self, letter_id: str) -> bool:
        """
        Tell whether a letter is held.
        """

    def is_open(self, letter_id: str) -> bool:
        """
        Tell whether a letter is kept and was not sent again.
        """

    def take(self, letter_id: str, call_id: str) -> Taken:
        """
        Claim a letter for sending it as *call_id*; a claim that was never finished is given again, with its call.
        """

    def sent(self, letter_id: str, record: bytes, *, queue: str, replay: str) -> bool:
        """
        Close a letter that was sent; *record* takes its place. Answers False when it was closed before.

        The books of *queue* and the progress of *replay* count it in the same step.
        """

    def truncated(self) -> Mapping[str, int]:
        """
        Return how many letters of each task have left before their time.
        """


class Journal(Protocol):
    """Where lines are written one after the other; a line is opaque bytes to the store."""

    def write(self, line: bytes, *, keep: int) -> None:
        """
        Add *line*, and forget all but about the newest *keep* lines.

        Raises `StoreError` when the store cannot be reached.
        """

    def lines(self, *, limit: int) -> Sequence[tuple[float, bytes]]:
        """
        Return the newest lines, at most *limit*, the newest first, each with its Unix time by the store's clock.
        """
