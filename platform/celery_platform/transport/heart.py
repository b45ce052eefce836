"""
Beat for a consumer while its own thread is busy, so that its lease lasts as long as its process.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from redis.exceptions import RedisError

if TYPE_CHECKING:
    from celery_platform.transport.holdings import Holdings
    from celery_platform.transport.options import ConsumerOptions

__all__ = ["Beating", "Heart"]

logger = logging.getLogger(__name__)

_TICK = 1.0


class Beating(Protocol):
    """What a heart beats for."""

    options: ConsumerOptions
    holdings: Holdings

    def flush(self) -> None:
        """
        Send what is owed.
        """

    def beat(self) -> None:
        """
        Renew the lease, and whatever else must not wait.
        """

    def outlived(self) -> bool:
        """
        Return whether there is nothing left to beat for.
        """


class Heart:
    """A daemon thread: a beat every third of the lease; on an unreachable server it tries again every second."""

    def __init__(self, body: Beating) -> None:
        self._body = body
        self._interval = body.options.lease / 3
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """
        Begin to beat; a second call changes nothing.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="celery-platform-lease", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """
        End soon; nothing is waited for.
        """
        self._stop.set()

    def _run(self) -> None:
        due = time.monotonic() + self._interval
        while not self._stop.wait(min(_TICK, self._interval)):
            try:
                if time.monotonic() >= due:
                    self._body.beat()
                    due = time.monotonic() + self._interval
                elif self._waited():
                    self._body.flush()
            except (RedisError, OSError) as error:
                logger.warning("The lease could not be renewed (%s); trying again.", error)
            if self._body.outlived():
                return

    def _waited(self) -> bool:
        since = self._body.holdings.owed_since
        return since is not None and time.monotonic() - since > _TICK / 2
