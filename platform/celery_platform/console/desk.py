"""
Hold what all handlers of one console share, and run what blocks outside of its loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_platform.celery_app import Platform
    from celery_platform.console.access import Roles
    from celery_platform.transport.depths import Backlog, Depths

__all__ = ["Desk"]

logger = logging.getLogger("celery_platform.console")

P = ParamSpec("P")
T = TypeVar("T")

# Each thread keeps a connection to the database of the schedules.
_THREADS = 4


@dataclass(slots=True)
class Desk:
    """The platform, the roles, the token of the metrics, and the hashes of inline scripts that may run."""

    platform: Platform
    roles: Roles
    metrics_token: str | None = None
    inline_scripts: Sequence[str] = ()
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_THREADS, thread_name_prefix="console"), repr=False
    )

    _measuring: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _depths: Depths | None = field(default=None, repr=False)

    def backlog(self) -> Backlog:
        """
        Measure the queues, over one connection that is kept.

        Raises `StoreError`, or an error of the connection, when the broker cannot be reached.
        """
        from celery_platform.transport.depths import depths_of

        with self._measuring:
            if self._depths is None:
                self._depths = depths_of(self.platform.app)
            return self._depths.read(self.platform.router.queues)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Do *work* in a thread, so that a store that hangs holds up nobody else, and return its result.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))

    def later(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """
        Do *work* in a thread; an error of its is only logged.
        """
        self._threads.submit(partial(_told, work), *args, **kwargs)


def _told(work: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    try:
        work(*args, **kwargs)
    except Exception:
        logger.exception("What came of an action could not be written down.")
