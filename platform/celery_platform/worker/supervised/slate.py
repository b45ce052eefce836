"""
Share between a child and its parent what the child is doing: a page of memory that survives the child.

The child writes without asking anybody, a few stores a call. The parent reads whenever it likes, also while the child
holds the interpreter's lock or is dead.

Taking back what a busy child has not started is the one thing both must agree on. The child announces a call before it
looks at the parent's mark; the parent makes its mark before it looks at the announcement. Whoever comes second sees the
other's word, and the parent's decision, made once both are visible, holds for both.
"""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass

__all__ = ["Glance", "Slate"]

_INTENT, _RUNNING, _LAST, _DONE, _MARK, _UNTIL, _DECISION, _SOFT = range(8)
_STARTED, _SOFT_LIMIT, _HARD_LIMIT, _WATCHED = range(8, 12)
_NONE = -1
_SETTLE_IN = 0.002  # until each side certainly sees what the other wrote
_LONGEST_DECISION = 5.0


@dataclass(frozen=True, slots=True)
class Glance:
    """
    What a child was doing at one moment.

    *number* is the call announced last, *running* whether it still runs, *last* the end of its batch, *done* the last
    call whose result is kept. *started* is monotonic time; limits are seconds, 0 for none.
    """

    number: int
    running: bool
    last: int
    done: int
    started: float
    soft_limit: float
    hard_limit: float


class Slate:
    """A page of shared memory; create it before the fork."""

    def __init__(self) -> None:
        page = memoryview(mmap.mmap(-1, mmap.PAGESIZE))
        # Whole machine words: each store is seen entirely or not at all.
        self._words = page.cast("q")
        self._reals = page.cast("d")
        for word in (_INTENT, _LAST, _DONE, _MARK, _UNTIL, _DECISION, _SOFT):
            self._words[word] = _NONE

    # The child's side.

    def open_batch(self, last: int) -> bool:
        """
        Announce calls up to *last*; return whether the parent is watching closely.
        """
        self._words[_LAST] = last
        return time.monotonic() - self._reals[_WATCHED] < _WATCHING

    def begin(self, number: int) -> bool:
        """
        Announce the call *number*; return False when the parent has given it back.
        """
        words = self._words
        self._reals[_STARTED] = time.monotonic()
        self._reals[_SOFT_LIMIT] = self._reals[_HARD_LIMIT] = 0.0
        words[_INTENT] = number
        if words[_MARK] <= number <= words[_UNTIL] and number >= self._decision():
            return False
        words[_RUNNING] = 1
        return True

    def limit(self, soft: float | None, hard: float | None) -> None:
        """
        Ask for the call that runs to be held to these limits, in seconds.
        """
        self._reals[_SOFT_LIMIT] = soft or 0.0
        self._reals[_HARD_LIMIT] = hard or 0.0

    def end(self) -> None:
        """
        Say that the call announced last does not run any more.
        """
        self._words[_RUNNING] = 0

    def done(self, number: int) -> None:
        """
        Say that all calls up to *number* may be acknowledged, if they still are held.
        """
        self._words[_DONE] = number

    @property
    def to_be_stopped(self) -> bool:
        """Whether the call that runs is the one the parent sent a soft stop for."""
        return bool(self._words[_RUNNING]) and self._words[_SOFT] == self._words[_INTENT]

    def _decision(self) -> int:
        patience = time.monotonic() + _LONGEST_DECISION
        while self._words[_DECISION] == _NONE:
            if time.monotonic() > patience:
                return 0  # nobody decides: what is not started goes back when the lease ends
            time.sleep(0.000_2)
        return self._words[_DECISION]

    # The parent's side.

    def watch(self) -> None:
        """
        Promise to look again soon.
        """
        self._reals[_WATCHED] = time.monotonic()

    def glance(self) -> Glance:
        """
        Return what the child is doing.
        """
        words, reals = self._words, self._reals
        while True:
            number = words[_INTENT]
            seen = Glance(
                number=number,
                running=bool(words[_RUNNING]),
                last=words[_LAST],
                done=words[_DONE],
                started=reals[_STARTED],
                soft_limit=reals[_SOFT_LIMIT],
                hard_limit=reals[_HARD_LIMIT],
            )
            if words[_INTENT] == number:
                return seen

    def take_back(self, seen: Glance) -> int:
        """
        Keep the child from starting more of its batch; return the first number that it will not start.
        """
        words = self._words
        words[_DECISION] = _NONE
        words[_UNTIL] = seen.last
        words[_MARK] = seen.number + 1
        time.sleep(_SETTLE_IN)
        first = words[_INTENT] + 1
        words[_DECISION] = first
        return first

    def stop_softly(self, number: int) -> None:
        """
        Mark the call *number* as the one that the next soft stop is for.
        """
        self._words[_SOFT] = number


_WATCHING = 0.05  # seconds after which a watch counts as over
