"""
Write down who changed dead letters, what, and why.
"""

from __future__ import annotations

import getpass
import json
import logging
import socket
from typing import TYPE_CHECKING, Any, Protocol

from celery_platform.clock import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_platform.clock import Clock

__all__ = ["Audit", "Ledger", "whoever"]

logger = logging.getLogger("celery_platform.audit")


class Ledger(Protocol):
    """Where lines are kept, the last first, as many as its owner likes."""

    def push(self, line: str) -> None:
        """
        Keep *line*.
        """

    def lines(self, limit: int) -> Sequence[str]:
        """
        Return the last lines, at most *limit*.
        """


class Audit:
    """Lines of an audit in *ledger*, and in the log ``celery_platform.audit``."""

    def __init__(self, ledger: Ledger, clock: Clock = SYSTEM) -> None:
        self._ledger = ledger
        self._clock = clock

    def write(self, *, action: str, what: str, count: int, actor: str, because: str) -> None:
        """
        Keep one line; without an *actor* it is the user of this process.
        """
        actor = actor or whoever()
        line = {
            "at": self._clock.now(),
            "actor": actor,
            "action": action,
            "what": what,
            "count": count,
            "because": because,
        }
        logger.info("%s: %s %s (%d): %s", actor, action, what, count, because or "no reason given")
        self._ledger.push(json.dumps(line))

    def read(self, limit: int) -> Sequence[dict[str, Any]]:
        """
        Return the last lines, at most *limit*.
        """
        return [json.loads(line) for line in self._ledger.lines(limit)]


def whoever() -> str:
    """
    Return who runs this process, as ``user@host``.
    """
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
