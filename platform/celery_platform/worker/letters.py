"""
Keep a message that never became a call: its bytes, its headers, and why.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery.exceptions import InvalidTaskError, NotRegistered, WorkerLostError

from celery_platform.burial import lineage_of
from celery_platform.clock import SYSTEM
from celery_platform.dead_letters import DeadLetter
from celery_platform.dead_letters.fingerprint import group_named
from celery_platform.dead_letters.letter import trace_id_of
from celery_platform.headers import ENQUEUED_AT, FAILURES, history_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_platform.celery_app import PlatformCelery

__all__ = ["Remains", "bury"]

logger = logging.getLogger("celery_platform.casualties")

_LONGEST_ID = 255
# Where the text of an error goes on with values that differ from message to message.
_VALUES = re.compile(r":|, got | is registered ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """
    A message nobody will be given again.

    *raw* are its bytes, *headers* what can be read of them, *properties* what else a replay needs.
    """

    reason: str
    error: str
    queue: str | None
    raw: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    deliveries: int = 1
    at: float | None = None
    worker: str | None = None

    @property
    def call_id(self) -> str | None:
        """The id of the call, when the message has one: every letter about a call is the same letter."""
        given = self.headers.get("id")
        return given if isinstance(given, str) and 0 < len(given) <= _LONGEST_ID else None

    @property
    def task(self) -> str:
        """The name of the task, as far as it can be read."""
        return str(self.headers.get("task") or "")

    def letter(self, tasks: Mapping[str, Any], version: str = "") -> DeadLetter:
        """
        Return the dead letter; *tasks* tell whose argument texts must not be shown, *version* is this worker's build.
        """
        letter_id = self.call_id or hashlib.sha256((self.queue or "").encode() + b"\0" + self.raw).hexdigest()[:32]
        shown = self._shown(tasks)
        failures = self.headers.get(FAILURES)
        kept: dict[str, Any] = {"raw": base64.b64encode(self.raw).decode()}
        if self.properties:
            kept |= {"headers": dict(self.headers), "properties": dict(self.properties)}
        return DeadLetter(
            id=letter_id,
            call_id=letter_id,
            task=self.task,
            queue=self.queue,
            reason=self.reason,
            error=self.error[:1024],
            group=group_named(self.reason, self.task, _VALUES.split(self.error)[0]),
            buried_at=SYSTEM.now() if self.at is None else self.at,
            attempts=failures if isinstance(failures, int) else 0,
            deliveries=self.deliveries,
            worker=self.worker,
            version=version,
            trace_id=trace_id_of(self.headers),
            history=tuple(history_of(self.headers)),
            lineage=lineage_of(self.headers),
            argsrepr=shown[0],
            kwargsrepr=shown[1],
            message=kept,
        )

    def _shown(self, tasks: Mapping[str, Any]) -> tuple[str, str]:
        contract = getattr(tasks.get(self.task), "contract", None)
        if contract is not None and contract.private and ENQUEUED_AT not in self.headers:
            return "", ""  # a plain producer writes the texts of private arguments in clear
        return str(self.headers.get("argsrepr") or ""), str(self.headers.get("kwargsrepr") or "")


def bury(app: PlatformCelery, remains: Remains) -> None:
    """
    Write the dead letter of *remains*, and tell whoever waits for the call's result.

    Raises:
        StoreError: the letter could not be written; the message must not be acknowledged then.

    """
    letter = remains.letter(app.tasks, app.platform.settings.build)
    policy = getattr(app.tasks.get(letter.task), "policy", None)
    app.platform.dead_letters.bury(
        letter,
        retention=getattr(policy, "dead_letters", None),
        on_dead=getattr(policy, "on_dead", None),
        counted=ENQUEUED_AT in remains.headers,
    )
    logger.error("%s is a dead letter now (%s): %s", letter.task or "A message", letter.reason, letter.error)
    if remains.call_id and remains.reason != "expired" and not remains.headers.get("ignore_result"):
        try:
            app.backend.mark_as_failure(remains.call_id, _failure(remains))
        except Exception as error:  # noqa: BLE001 - the letter is what counts; a result store may raise anything
            logger.warning("The failure of %s could not be stored as its result: %s", remains.call_id, error)


def _failure(remains: Remains) -> Exception:
    match remains.reason:
        case "unknown_task":
            return NotRegistered(remains.task)
        case "poison":
            return WorkerLostError(remains.error)
        case _:
            return InvalidTaskError(remains.error)
