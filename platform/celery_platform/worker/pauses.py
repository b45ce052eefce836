"""
Stop fetching from a paused queue: what waits there stays there, instead of going round through the workers.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from celery_platform.errors import StoreError
from celery_platform.worker.pulse import vitals_of

if TYPE_CHECKING:
    from celery.worker.consumer import Consumer

__all__ = ["QueuePauses"]

logger = logging.getLogger("celery_platform.pauses")

_INTERVAL = 1.0


class QueuePauses(bootsteps.StartStopStep):
    """
    Follow `pause queue` and `resume queue`, within two seconds.

    The store is read on a thread of its own, so that a store that hangs does not hold up the worker; what it said last
    holds until it answers again. Calls that were fetched before the pause are held back by their guards.
    """

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, parent: Consumer, **options: Any) -> None:
        super().__init__(parent, **options)
        self._wanted: frozenset[str] = frozenset()
        self._paused: set[str] = set()
        self._ended = threading.Event()
        self._timer: Any = None
        self._vitals = vitals_of(parent)

    def start(self, parent: Any) -> None:
        """
        Begin to follow; after a lost connection everything is consumed again, so nothing counts as paused.
        """
        self._paused = set()
        self._ended = threading.Event()
        platform = parent.app.platform
        # Before the first message is fetched: a new worker must not take a paused queue's calls for a turn.
        self._look(platform)
        self._apply(parent)
        threading.Thread(target=self._read, args=(platform, self._ended), name="queue-pauses", daemon=True).start()
        self._timer = parent.timer.call_repeatedly(_INTERVAL / 2, self._apply, (parent,))

    def stop(self, parent: Any) -> None:
        """
        Stop following.
        """
        del parent
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()

    def _read(self, platform: Any, ended: threading.Event) -> None:
        while not ended.wait(_INTERVAL):
            self._look(platform)

    def _look(self, platform: Any) -> None:
        try:
            pauses = platform.guards.pauses()
        except StoreError as error:
            logger.warning("The pauses of queues could not be read; the last known ones hold: %s", error)
            self._vitals.note("the state store", str(error))
        else:
            self._vitals.note("the state store", "")
            self._wanted = frozenset(name.partition(":")[2] for name in pauses if name.startswith("queue:"))

    def _apply(self, parent: Any) -> None:
        consumer, wanted = parent.task_consumer, self._wanted
        for name in wanted - self._paused:
            # Asked of the list, not of what is consumed: before the loop begins nothing is.
            if any(queue.name == name for queue in consumer.queues):
                consumer.cancel_by_queue(name)
                self._paused.add(name)
                logger.warning("The queue %s is paused; nothing is fetched from it.", name)
        for name in self._paused - wanted:
            queue = parent.app.amqp.queues[name]
            if not consumer.consuming_from(name):
                consumer.add_queue(queue)
                consumer.consume()
            self._paused.discard(name)
            logger.warning("The queue %s is fetched from again.", name)
