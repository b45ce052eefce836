"""
Let probes see the worker's main process: its ports, the beat of its loop, and what it waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.worker import state as worker_state

from celery_platform.errors import ConfigurationError
from celery_platform.instrumentation import counting, exposition, web
from celery_platform.instrumentation.vitals import Vitals
from celery_platform.settings import redacted_url
from celery_platform.worker import counted

if TYPE_CHECKING:
    from celery.worker.consumer import Consumer

__all__ = ["LoopPulse", "Probes", "vitals_of"]

_BEAT = 1.0


def vitals_of(consumer: Any) -> Vitals:
    """
    Return what the probes of *consumer*'s worker read; without probes, notes nobody reads.
    """
    found: Vitals | None = getattr(consumer.controller, "vitals", None)
    return Vitals("worker") if found is None else found


class Probes(bootsteps.StartStopStep):
    """
    Open the ports once the pool stands.

    They stay open to the very end: a worker that finishes its last calls is alive, and not ready.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._vitals = worker.vitals = Vitals("worker")
        self._hostname = worker.hostname
        try:
            self._tally = counting.begin(worker.app.platform.settings)
        except ConfigurationError as error:
            raise SystemExit(f"celery-platform: the worker does not start. {error}") from error
        if self._tally is not None:
            counted.install(worker.app)

    def start(self, parent: Any) -> None:
        """
        Begin to answer.
        """
        platform, vitals = parent.app.platform, self._vitals
        if type(parent.pool).__module__.endswith(".solo"):
            vitals.occupied_by(lambda: bool(worker_state.active_requests))
        vitals.rest(f"it is not connected to the broker at {redacted_url(platform.broker_url)}")
        vitals.start()
        web.serve(platform.settings, vitals, None if self._tally is None else self._metrics)

    def _metrics(self) -> bytes:
        here = (self._hostname,)
        running: list[exposition.Reading] = [
            (("celery_worker_up", *here), [1.0]),
            (("celery_worker_tasks_active", *here), [float(len(worker_state.active_requests))]),
            (("celery_platform_ready", "worker"), [float(self._vitals.ready().ok)]),
        ]
        return exposition.written([*exposition.counted(self._tally), *running])

    def stop(self, parent: Any) -> None:
        """
        Say that no more work is taken.
        """
        del parent
        self._vitals.rest("it is shutting down")

    terminate = stop


class LoopPulse(bootsteps.StartStopStep):
    """Leave a beat in each second the loop turns; between two connections there is none, and none is missed."""

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, parent: Consumer, **options: Any) -> None:
        super().__init__(parent, **options)
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        """
        Begin to beat; a loop without a hub leaves its beats itself, since its timer is a thread of its own.
        """
        vitals = vitals_of(parent)
        vitals.beat()
        if parent.hub:
            self._timer = parent.timer.call_repeatedly(_BEAT, vitals.beat)

    def stop(self, parent: Any) -> None:
        """
        Note why the loop rests.
        """
        if self._timer is not None:
            self._timer.cancel()
        stopping = any(flag not in {None, False} for flag in (worker_state.should_stop, worker_state.should_terminate))
        broker = redacted_url(parent.app.platform.broker_url)
        vitals_of(parent).rest(
            "it is shutting down" if stopping else f"the connection to the broker at {broker} is lost, it tries again"
        )
