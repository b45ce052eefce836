"""
Settle what dead children leave behind.

What a child had finished is acknowledged, the call it died with is judged as Celery judges a call whose process was
lost, and the rest goes back, unblamed. A broker that does not answer is asked again until it does.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from billiard.common import human_status
from billiard.einfo import ExceptionInfo
from celery.exceptions import WorkerLostError
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from celery_platform.worker.supervised.children import Child
    from celery_platform.worker.supervised.slate import Glance
    from celery_platform.worker.supervised.supervisor import Supervisor

__all__ = ["Estate"]

logger = logging.getLogger("celery_platform.worker")


@dataclass(frozen=True, slots=True)
class _Dead:
    """A child that is no more: what it was doing, and whether its end was no accident."""

    owner: str
    pid: int
    seen: Glance
    expected: bool
    status: Any


class Estate:
    """The books of the dead."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._dead: list[_Dead] = []

    @property
    def owed(self) -> bool:
        """Whether something is still to be settled."""
        return bool(self._dead)

    def enter(self, child: Child) -> None:
        """
        Take note of a dead child.
        """
        self._dead.append(_Dead(child.owner, child.pid, child.slate.glance(), child.expected, child.process.exitcode))

    def settle(self) -> None:
        """
        Settle everything.

        Raises `RedisError` or `OSError` when the broker is away; what is not settled stays.
        """
        while self._dead:
            self._settle(self._dead[0])
            self._dead.pop(0)

    def _settle(self, dead: _Dead) -> None:
        steward, seen = self._supervisor.steward, dead.seen
        held = steward.held(dead.owner)
        finished = [name for number, (name, _) in held.items() if number <= seen.done]
        steward.acknowledge(dead.owner, finished)
        blamed = seen.running and not dead.expected and seen.number in held
        if blamed:
            self._judge(dead, *held[seen.number])
        steward.reclaim(dead.owner, {seen.number} if blamed else ())

    def _judge(self, dead: _Dead, field: str, raw: bytes) -> None:
        """
        Let the lost call's own request decide; what it does not acknowledge goes back and counts a death.
        """
        request = self._supervisor.census.request_of(dead.owner, dead.pid, field, raw)
        if request is None:
            return
        try:
            request.on_failure(_lost(dead.status))
        except (RedisError, OSError):
            raise
        except Exception:
            logger.exception("The loss of %s could not be told; it goes back to its queue.", request)


def _lost(status: Any) -> ExceptionInfo:
    error = WorkerLostError(f"Worker exited prematurely: {human_status(status)}.")
    try:
        _throw(error)  # Celery's record of an error needs a traceback
    except WorkerLostError:
        info = ExceptionInfo()
    return info


def _throw(error: Exception) -> None:
    raise error
