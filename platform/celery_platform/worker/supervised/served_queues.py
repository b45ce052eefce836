"""
Stand where Celery's task consumer stands in the parent: it fetches nothing, and says from where the children do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu import Consumer

from celery_platform.transport.qos import shutting_down

if TYPE_CHECKING:
    from celery_platform.worker.supervised.supervisor import Supervisor

__all__ = ["ServedQueues"]


class ServedQueues(Consumer):
    """The queues of a worker whose children fetch for themselves."""

    queues: list[Any]

    def __init__(self, supervisor: Supervisor, channel: Any, **options: Any) -> None:
        self._supervisor = supervisor
        self._serving: set[str] = set()
        super().__init__(channel, **options)

    def consume(self, no_ack: bool | None = None) -> None:  # noqa: ARG002 - kombu's signature
        """
        Have the children fetch from all queues.
        """
        self._serving = {queue.name for queue in self.queues}
        self._tell()

    def consuming_from(self, queue: Any) -> bool:
        """
        Tell whether the children fetch from *queue*.
        """
        return getattr(queue, "name", queue) in self._serving

    def cancel_by_queue(self, queue: Any) -> None:
        """
        Have the children fetch no longer from *queue*.
        """
        name = getattr(queue, "name", queue)
        self._queues.pop(name, None)  # type: ignore[attr-defined]  # the stubs leave it out
        self._serving.discard(name)
        self._tell()

    def cancel(self) -> None:
        """
        Have the children fetch nothing when the worker stops; a connection lost by the parent is none of theirs.
        """
        if shutting_down():
            self._serving.clear()
            self._tell()

    close = cancel

    def qos(self, *_: Any, **__: Any) -> None:
        """
        Do nothing: each child sizes its own batches.
        """

    def _tell(self) -> None:
        self._supervisor.tell("serve", queues=sorted(self._serving))
