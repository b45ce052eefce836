"""
Note how the first calls of a replay end, so that it knows whether to go on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery import signals

from celery_platform.errors import StoreError
from celery_platform.headers import REPLAY
from celery_platform.stores.redis_replays import RedisReplays

if TYPE_CHECKING:
    from celery_platform.celery_app import PlatformCelery

__all__ = ["install"]

logger = logging.getLogger("celery_platform.replay")

# A retry and a deferral are no end.
_ENDS = frozenset({"SUCCESS", "FAILURE"})


def install(app: PlatformCelery) -> None:
    """
    Note the end of every call whose message names a replay.
    """

    def after_run(task: Any = None, task_id: str = "", state: str | None = None, **_: Any) -> None:
        request = getattr(task, "request", None)
        headers = getattr(request, "headers", None) or {}
        if task is None or task.app is not app or REPLAY not in headers:
            return
        if state not in _ENDS and not getattr(request, "discarded", False):
            return
        try:
            RedisReplays(app.platform.state).ended(str(headers[REPLAY]), task_id, str(state))
        except StoreError as error:
            logger.warning("How %s ended could not be noted; its replay waits for it in vain: %s", task_id, error)

    signals.task_postrun.connect(after_run, weak=False, dispatch_uid=f"celery_platform.replays.{id(app)}")
