"""
The twin of the Redis store in this process's memory, for tests and eager mode.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_platform.clock import SYSTEM
from celery_platform.stores.base import Burial, Grave, GroupRow, Inquiry, Taken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from celery_platform.clock import Clock

__all__ = ["MemoryGraves", "MemoryJournal"]

_DROPPED_AT_ONCE = 100


@dataclass(slots=True)
class _Letter:
    grave: Grave
    record: bytes
    ends: float
    held: bool = False
    state: str = ""
    call: str = ""


class MemoryGraves:
    """Dead letters in a dict."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._letters: dict[str, _Letter] = {}
        self._groups: dict[str, tuple[Grave, int]] = {}
        self._sent: list[str] = []
        self._truncated: Counter[str] = Counter()
        self.books: Counter[str] = Counter()
        self.replays: Counter[str] = Counter()

    def bury(self, grave: Grave) -> Burial:
        """
        Keep a record. The same id twice is one letter, and the first record stays.
        """
        self._expire()
        if grave.id in self._letters:
            return Burial(new=False)
        self._letters[grave.id] = _Letter(grave, grave.record, self._clock.now() + grave.ttl)
        group = grave.tags.get("group", "")
        new_group = group not in self._groups
        self._groups[group] = (grave, self._groups.get(group, (grave, 0))[1] + 1)
        queue = grave.tags.get("queue", "")
        self.books[f"{queue}|dead"] += 1
        self.books[f"{queue}|enqueued"] += not grave.counted
        return Burial(new=True, new_group=new_group, dropped=self._truncate(grave))

    def ids(self, inquiry: Inquiry, *, limit: int, start: int = 0) -> Sequence[str]:
        """
        Return the ids of open letters, the newest first, at most *limit*, without the *start* newest.
        """
        self._expire()
        found = sorted(self._open(inquiry), key=lambda one: (one.grave.at, one.grave.id), reverse=True)
        return [one.grave.id for one in found[start : start + limit]]

    def records(self, ids: Sequence[str]) -> Sequence[bytes | None]:
        """
        Return the records of *ids*, open or sent, in their order; nothing for one that is gone.
        """
        self._expire()
        return [self._letters[letter_id].record if letter_id in self._letters else None for letter_id in ids]

    def sent_ids(self, limit: int) -> Sequence[str]:
        """
        Return the ids of letters that were sent again, the last first.
        """
        self._expire()
        return [letter_id for letter_id in reversed(self._sent) if letter_id in self._letters][:limit]

    def count(self, inquiry: Inquiry) -> int:
        """
        Return how many open letters there are.
        """
        self._expire()
        return len(list(self._open(inquiry)))

    def groups(self, limit: int) -> Sequence[GroupRow]:
        """
        Return the groups that have open letters, the one with the newest letter first.
        """
        self._expire()
        by_group: dict[str, list[Grave]] = {}
        for one in self._open(Inquiry()):
            by_group.setdefault(one.grave.tags.get("group", ""), []).append(one.grave)
        rows = [self._row(group, sorted(graves, key=lambda one: one.at)) for group, graves in by_group.items()]
        return sorted(rows, key=lambda row: row.last, reverse=True)[:limit]

    def remove(self, ids: Sequence[str]) -> int:
        """
        Forget letters; return how many there were. One that is held stays.
        """
        self._expire()
        leaving = [one for one in ids if one in self._letters and not self._letters[one].held]
        for letter_id in leaving:
            del self._letters[letter_id]
        return len(leaving)

    def amend(self, letter_id: str, record: bytes) -> bool:
        """
        Put *record* in the place of an open letter's; answer whether there was one.
        """
        self._expire()
        letter = self._letters.get(letter_id)
        if letter is None or letter.state == "sent":
            return False
        letter.record = record
        return True

    def hold(self, ids: Sequence[str], *, on: bool, ttl: float) -> int:
        """
        Keep letters from every removal, or end that and give them *ttl* seconds more; return how many there were.
        """
        self._expire()
        found = [self._letters[letter_id] for letter_id in ids if letter_id in self._letters]
        for letter in found:
            letter.held = on
            letter.ends = float("inf") if on else self._clock.now() + ttl
        return len(found)

    def held(self, letter_id: str) -> bool:
        """
        Tell whether a letter is held.
        """
        return letter_id in self._letters and self._letters[letter_id].held

    def is_open(self, letter_id: str) -> bool:
        """
        Tell whether a letter is kept and was not sent again.
        """
        self._expire()
        return letter_id in self._letters and self._letters[letter_id].state != "sent"

    def take(self, letter_id: str, call_id: str) -> Taken:
        """
        Claim a letter for sending it as *call_id*; a claim that was never finished is given again, with its call.
        """
        self._expire()
        letter = self._letters.get(letter_id)
        if letter is None:
            return Taken("gone")
        if letter.state == "sent":
            return Taken("sent", letter.call)
        letter.state, letter.call = "sending", letter.call or call_id
        return Taken("claimed", letter.call)

    def sent(self, letter_id: str, record: bytes, *, queue: str, replay: str) -> bool:
        """
        Close a letter that was sent; *record* takes its place. Answers False when it was closed before.
        """
        letter = self._letters.get(letter_id)
        if letter is None or letter.state == "sent":
            return False
        letter.state, letter.record = "sent", letter.record if letter.held else record
        self._sent.append(letter_id)
        self.books[f"{queue}|enqueued"] += 1
        self.replays[replay] += 1
        return True

    def truncated(self) -> Mapping[str, int]:
        """
        Return how many letters of each task have left before their time.
        """
        return dict(self._truncated)

    def _open(self, inquiry: Inquiry) -> Iterator[_Letter]:
        for letter in self._letters.values():
            grave = letter.grave
            if letter.state == "sent" or (inquiry.since is not None and grave.at < inquiry.since):
                continue
            if inquiry.until is not None and grave.at >= inquiry.until:
                continue
            if all(grave.tags.get(tag, "") == value for tag, value in inquiry.tags.items()):
                yield letter

    def _row(self, group: str, graves: list[Grave]) -> GroupRow:
        about, total = self._groups[group]
        tags = about.tags
        return GroupRow(
            group,
            tags.get("task", ""),
            tags.get("reason", ""),
            about.label,
            len(graves),
            total,
            graves[0].at,
            graves[-1].at,
            graves[-1].id,
        )

    def _truncate(self, newest: Grave) -> int:
        bounds, task = newest.bounds, newest.tags.get("task", "")
        dropped = 0
        while dropped < _DROPPED_AT_ONCE:
            everything = list(self._letters.values())
            mine = [one for one in everything if one.grave.tags.get("task", "") == task]
            opened = [one for one in mine if one.state != "sent"]
            if 0 < bounds.count < len(opened) or 0 < bounds.size < _weight(mine):
                candidates = opened
            elif 0 < bounds.total < _weight(everything):
                sent = [one for one in everything if one.state == "sent"]
                candidates = sent or everything
            else:
                break
            leaving = [one for one in candidates if not one.held and one.grave.id != newest.id]
            if not leaving:
                break
            oldest = min(leaving, key=lambda one: one.grave.at)
            self._truncated[oldest.grave.tags.get("task", "")] += 1
            del self._letters[oldest.grave.id]
            dropped += 1
        return dropped

    def _expire(self) -> None:
        now = self._clock.now()
        self._letters = {key: value for key, value in self._letters.items() if value.ends > now}


def _weight(letters: Sequence[_Letter]) -> int:
    return sum(len(one.record) for one in letters)


class MemoryJournal:
    """Lines in a list."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._lines: list[tuple[float, bytes]] = []

    def write(self, line: bytes, *, keep: int) -> None:
        """
        Add *line*, and forget all but the newest *keep* lines.
        """
        self._lines = [*self._lines, (self._clock.now(), line)][-keep:]

    def lines(self, *, limit: int) -> Sequence[tuple[float, bytes]]:
        """
        Return the newest lines, at most *limit*, the newest first.
        """
        return self._lines[: -limit - 1 : -1]
