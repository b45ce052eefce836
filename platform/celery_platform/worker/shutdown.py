"""
Make SIGTERM mean: finish what runs, for a bounded time, and give the rest back.

Celery's warm shutdown ends as soon as the running calls have, but waits for ever; its soft shutdown is bounded, but
always waits its whole time. This is the first with the bound of the second: when the time is up, the processes of the
pool are killed, and what they had not finished goes back to its queue unacknowledged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from celery.signals import worker_ready

if TYPE_CHECKING:
    from celery_platform.celery_app import PlatformCelery

__all__ = ["install"]

logger = logging.getLogger("celery_platform.shutdown")


def install(app: PlatformCelery) -> None:
    """
    Give every worker of *app* the bounded shutdown; the bound is `PLATFORM_SOFT_SHUTDOWN` seconds.
    """

    def on_ready(sender: Any, **_: Any) -> None:
        if sender.app is app and threading.current_thread() is threading.main_thread():
            _finish_on_sigterm(sender.controller, app.platform.settings.soft_shutdown)

    worker_ready.connect(on_ready, weak=False)


def _finish_on_sigterm(worker: Any, bound: float) -> None:
    # The command line remapped SIGTERM so that pool children ignore one sent to the whole process group; that also gave
    # the parent the handler which sleeps through the soft shutdown.
    celery_worker: Any = import_module("celery.apps.worker")

    def kill_later(_worker: Any) -> None:
        timer = threading.Timer(bound, _kill_children, (worker,))
        timer.daemon = True
        timer.start()

    # The installer of every handler of Celery's own.
    celery_worker._shutdown_handler(worker, sig="SIGTERM", how="Warm", callback=kill_later)  # noqa: SLF001


def _kill_children(worker: Any) -> None:
    if kill_children := getattr(worker.pool, "kill_children", None):
        logger.warning("The soft shutdown's time is up: %d processes are killed, their calls go back.", kill_children())
        return
    processes = getattr(getattr(worker.pool, "_pool", None), "_pool", None) or ()
    logger.warning("The soft shutdown's time is up: %d processes are killed, their calls go back.", len(processes))
    for process in list(processes):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
