"""
Run a thread beside the worker that moves what no worker could run into the dead letters.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from celery import bootsteps

if TYPE_CHECKING:
    from celery_platform.celery_app import PlatformCelery

__all__ = ["DrainStep"]


class DrainStep(bootsteps.StartStopStep):
    """A boot step with a thread of the worker's main process; a subclass says in `_run` what is drained."""

    requires = ("celery.worker.components:Pool",)
    thread_name = "drain"

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        """
        Start the thread.
        """
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, args=(parent.app,), name=self.thread_name, daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - a boot step is told its worker
        """
        Drain once more and end the thread.
        """
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    terminate = stop

    def _run(self, app: PlatformCelery) -> None:
        raise TypeError(f"{type(self).__name__} does not say what of {app.main!r} it drains.")
