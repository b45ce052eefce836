"""
Write down who did what by hand: once before it is done, once when it is known what came of it.
"""

from __future__ import annotations

import getpass
import json
import logging
import socket
import uuid
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_platform.stores.base import Journal

__all__ = ["Action", "AuditLog", "whoever"]

logger = logging.getLogger("celery_platform.audit")

# A line of a person's doing is small and rare: this is years of them, and a bound all the same.
LINES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """
    One thing an operator did.

    *before* and *after* are what stood there, as JSON values; *outcome* is ``asked`` until it is ``done``, ``refused``
    or ``failed``. *at* is a Unix time in seconds by the store's clock. *request* names the one request.
    """

    actor: str
    role: str
    action: str
    target: str
    reason: str = ""
    address: str = ""
    before: Any = None
    after: Any = None
    outcome: str = "asked"
    request: str = ""
    at: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """
        Return it as plain values.
        """
        return asdict(self)


class AuditLog:
    """The newest twenty thousand lines of *journal*, two an action; what is older is forgotten."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def begin(self, action: Action) -> Action:
        """
        Write down that *action* was asked for, and return it with the name of its request.

        Raises `StoreError` when the store cannot be reached: the action must not be done then.
        """
        asked = replace(action, request=action.request or uuid.uuid4().hex)
        self._write(asked)
        return asked

    def end(self, action: Action, outcome: str, *, before: Any = None, after: Any = None) -> Action:
        """
        Write down what came of *action*, and return it.

        Raises `StoreError` when the store cannot be reached; the line of `begin` stands then without an end.
        """
        ended = replace(action, outcome=outcome, before=before, after=after)
        self._write(ended)
        return ended

    def done(self, action: Action) -> None:
        """
        Write down, and log, an action that is over; without an actor, it was the user of this process.

        Raises `StoreError` when the store cannot be reached.
        """
        ended = replace(action, actor=action.actor or whoever(), request=uuid.uuid4().hex, outcome="done")
        logger.info("%s: %s %s: %s", ended.actor, ended.action, ended.target, ended.reason or "no reason given")
        self._write(ended)

    def newest(self, limit: int = 100, *, about: str = "") -> Sequence[Action]:
        """
        Return the newest *limit* actions whose name begins with *about*, the newest first, each once with its outcome.
        """
        found: dict[str, Action] = {}
        for at, record in self._journal.lines(limit=LINES if about else 2 * limit):
            fields = json.loads(record)
            action = Action(**{name: value for name, value in fields.items() if name in Action.__slots__})
            if not action.action.startswith(about):
                continue
            # The end of an action is newer than its beginning, and says everything that the beginning says.
            found.setdefault(action.request, replace(action, at=at))
        return list(found.values())[:limit]

    def _write(self, action: Action) -> None:
        self._journal.write(json.dumps(action.to_json(), default=str).encode(), keep=LINES)


def whoever() -> str:
    """
    Return who runs this process, as ``user@host``.
    """
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
