"""
Count in every process of a worker, and read the sum in one: also after a child was recycled, or killed in mid-air.

The counts lie in memory that all processes of the worker share. Each process writes to a slot of its own, which it
holds by a lock on one byte that the kernel drops when it dies; the next child takes the slot over and counts on. So
nothing is sent, nothing is lost with a process, and no file is left behind.

A slot is a row of entries: the length of the key, how many numbers follow it, the key, the numbers. A new entry is
written whole before the length of the row tells of it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BUCKETS", "Key", "Tally"]

#: Upper ends of the buckets of every histogram, in seconds; what is longer falls into one more.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)

# The name of a family, then the values of its labels.
Key = tuple[str, ...]

_SLOTS = 1024
_SIZE = 1 << 18  # bytes of a slot; only what is written to takes memory
_HEADER = 16  # how much of the slot is used, and how many counts were dropped
_ENTRY = struct.Struct("=II")
_WORD = 8
_MOST = 500  # label sets of a family in one process
_END = "\x1f"


class Tally:
    """
    The counts of a process and of all it forks; make it before the first fork.

    A family keeps 500 sets of labels a process; what is beyond is dropped, and `dropped` counts it.
    """

    def __init__(self, *, slots: int = _SLOTS, size: int = _SIZE) -> None:
        self._file = os.memfd_create("celery-platform-tally", os.MFD_CLOEXEC)
        os.ftruncate(self._file, slots * size)
        self._memory = memoryview(mmap.mmap(self._file, slots * size))
        self._numbers = self._memory.cast("d")
        self._lengths = self._memory.cast("Q")
        self._slots, self._size = slots, size
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._slot: int | None = None
        self._index: dict[Key, int] = {}
        self._families: dict[str, int] = {}

    def add(self, key: Key, amount: float = 1.0) -> None:
        """
        Raise the count of *key*.
        """
        with self._lock:
            at = self._index.get(key) or self._open(key, 1)
            if at:
                self._numbers[at] += amount

    def observe(self, key: Key, value: float) -> None:
        """
        Enter *value* in the histogram *key*.
        """
        with self._lock:
            at = self._index.get(key) or self._open(key, len(BUCKETS) + 2)
            if at:
                self._numbers[at + bisect_left(BUCKETS, value)] += 1
                self._numbers[at + len(BUCKETS) + 1] += value

    def totals(self) -> dict[Key, list[float]]:
        """
        Return the sums over all processes, dead ones included.
        """
        found: dict[Key, list[float]] = {}
        for slot in range(self._slots):
            if not self._lengths[slot * self._size // _WORD]:
                break
            for key, at, count in self._entries(slot):
                numbers = self._numbers[at : at + count]
                known = found.get(key)
                found[key] = list(numbers) if known is None else [a + b for a, b in zip(known, numbers, strict=True)]
        return found

    @property
    def dropped(self) -> float:
        """
        How many counts had no room.
        """
        return sum(self._numbers[slot * self._size // _WORD + 1] for slot in range(self._slots))

    def _open(self, key: Key, count: int) -> int:
        slot = self._claim() if self._slot is None else self._slot
        if slot < 0:
            return 0
        if known := self._index.get(key):
            return known
        base = slot * self._size
        used = self._lengths[base // _WORD] or _HEADER
        text = _END.join(key).encode(errors="replace")
        text += b" " * (-len(text) % _WORD)
        start = base + used
        end = used + _ENTRY.size + len(text) + count * _WORD
        if end > self._size or self._families.get(key[0], 0) >= _MOST:
            self._numbers[base // _WORD + 1] += 1
            return 0
        _ENTRY.pack_into(self._memory, start, len(text), count)
        self._memory[start + _ENTRY.size : start + _ENTRY.size + len(text)] = text
        self._lengths[base // _WORD] = end
        return self._remember(key, (start + _ENTRY.size + len(text)) // _WORD)

    def _remember(self, key: Key, at: int) -> int:
        self._index[key] = at
        self._families[key[0]] = self._families.get(key[0], 0) + 1
        return at

    def _claim(self) -> int:
        for slot in range(self._slots):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except OSError:
                continue
            self._slot = slot
            if not self._lengths[slot * self._size // _WORD]:
                self._lengths[slot * self._size // _WORD] = _HEADER
            for key, at, _ in self._entries(slot):
                self._remember(key, at)
            return slot
        self._slot = -1
        return -1

    def _entries(self, slot: int) -> Iterator[tuple[Key, int, int]]:
        base = slot * self._size
        at, end = base + _HEADER, base + self._lengths[base // _WORD]
        while at < end:
            length, count = _ENTRY.unpack_from(self._memory, at)
            at += _ENTRY.size
            text = bytes(self._memory[at : at + length]).decode().rstrip(" ")
            at += length
            yield tuple(text.split(_END)), at // _WORD, count
            at += count * _WORD
