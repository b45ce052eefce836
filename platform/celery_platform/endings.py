"""
Tell the worker's main process how a run ended that has no result: Celery's own `Ignore`, with a reason to count.
"""

from __future__ import annotations

from celery.exceptions import Ignore

__all__ = ["Deferral", "Discarded"]


class Deferral(Ignore):
    """The call waits for *reason*; *by* is who makes it wait."""

    def __init__(self, reason: str, by: str) -> None:
        super().__init__(reason, by)
        self.by = by


class Discarded(Ignore):
    """The call has ended because its work is no longer wanted."""
