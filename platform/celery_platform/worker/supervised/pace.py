"""
Size the batches of a child by how long its calls took of late.

A batch is some milliseconds of work. What is unknown or slow comes alone, so that nothing waits behind it.
"""

from __future__ import annotations

__all__ = ["Pace"]

_BUDGET = 0.012  # seconds of work in a batch
_QUICK = 0.004  # a call expected to be longer runs alone
_LARGEST = 250
_WEIGHT = 0.2  # of the newest time in an average


class Pace:
    """The run times of one child, as moving averages in seconds."""

    def __init__(self) -> None:
        self._of_task: dict[str, float] = {}
        self._size = 1

    @property
    def batch(self) -> int:
        """How many messages to ask for next."""
        return self._size

    def is_quick(self, task: str) -> bool:
        """
        Tell whether others may wait behind a call of *task*.
        """
        return self._of_task.get(task, _BUDGET) < _QUICK

    def note(self, task: str, seconds: float) -> None:
        """
        Take note of one run of *task*.
        """
        known = self._of_task.get(task)
        self._of_task[task] = seconds if known is None else known + _WEIGHT * (seconds - known)

    def note_batch(self, calls: int, seconds: float) -> None:
        """
        Take note of a batch; the next one is at most twice as large.
        """
        if calls:
            each = max(seconds / calls, 1e-6)
            self._size = 1 if each > _QUICK else max(1, min(int(_BUDGET / each), 2 * self._size, _LARGEST))
