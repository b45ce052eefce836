"""
A call in the worker's main process: what is told of it, and what becomes of it when its process cannot say so itself.
"""

from __future__ import annotations

import logging
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # the stubs leave it out
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request
from celery.worker.state import task_ready
from kombu.utils.encoding import safe_repr

from celery_platform import burial
from celery_platform.defaults import DELIVERY_LIMIT
from celery_platform.errors import StoreError
from celery_platform.headers import DEATHS, call_from
from celery_platform.outcomes import Buried
from celery_platform.routing import PLAIN_QUEUE

if TYPE_CHECKING:
    from celery_platform.task import PlatformTask

__all__ = ["PlatformRequest"]

logger = logging.getLogger("celery_platform.burial")


class PlatformRequest(Request):
    """
    A received call of a platform task.

    Of a task with private parameters, `inspect active`, events and logs show the masked texts of the arguments, also
    when the producer knew nothing of the platform and wrote them into the message's header in clear.

    A call over its hard time limit, and on RabbitMQ one whose processes keep dying, is buried here; a `MemoryError`
    ends the attempt and not the worker.
    """

    _task: PlatformTask[..., Any]
    _args: list[Any]
    _kwargs: dict[str, Any]
    _request_dict: dict[str, Any]
    _context: Any
    _message: Any
    _already_cancelled: bool
    _already_revoked: bool
    _success_was_stored: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The same object that goes to the pool beside it, and so no byte more on the way there.
        told = {"content_type": self._message.content_type, "content_encoding": self._message.content_encoding}
        properties = {**self._request_dict["properties"], **told, burial.BODY: self._message.body}
        self._request_dict["properties"] = properties
        if (shown := self._task.contract.argsrepr(self._args, self._kwargs)) is not None:
            self._argsrepr, self._kwargsrepr = shown
            self._request_dict["argsrepr"], self._request_dict["kwargsrepr"] = shown

    def info(self, safe: bool = False) -> Any:
        """
        Return what remote control tells of this call; private arguments are masked even when all is asked for.
        """
        return super().info(safe=safe or bool(self._task.contract.private))

    def cancel(self, pool: Any, signal: int | None = None, emit_retry: bool = True) -> None:
        """
        End the process that runs this call; its message is the broker's again.

        Celery's own signal for it is one that the pool's processes ignore.
        """
        super().cancel(pool, SIGKILL if signal is None else signal, emit_retry)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """
        Bury a call over its hard limit before Celery acknowledges it; without a letter it goes back to its queue.
        """
        if soft or self._bury("timeout", TimeLimitExceeded(timeout)):
            super().on_timeout(soft, timeout)
        else:
            task_ready(self)
            self.reject(requeue=True)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """
        Contain what would end this process, and bury the call whose own processes keep dying.
        """
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if isinstance(error, MemoryError):
            # Celery would raise it here, and the worker would end.
            if self._bury("oom", error):
                self._end(error, exc_info, store=not return_ok)
            else:
                task_ready(self)
                self.reject(requeue=True)
        elif isinstance(error, (WorkerLostError, SystemExit)) and self._is_poison(error):
            lost = WorkerLostError(f"{DELIVERY_LIMIT} processes died with this call, the last one so: {error}")
            if self._bury("poison", lost):
                self._end(lost, exc_info, store=True)
                return
            super().on_failure(exc_info, send_failed_event, return_ok)
        else:
            super().on_failure(exc_info, send_failed_event, return_ok)

    def _is_poison(self, error: BaseException) -> bool:
        """
        Tell whether this death is the last one allowed. On Redis, the transport counts.
        """
        if self._task.platform.settings.broker_kind != "amqp" or self._already_cancelled or self._already_revoked:
            return False
        counts = [self._message.headers.get(name) for name in ("x-delivery-count", DEATHS)]
        deaths = 1 + sum(count for count in counts if isinstance(count, int))
        if deaths >= DELIVERY_LIMIT:
            return not self._success_was_stored()
        if self._message.delivery_info.get("routing_key") == PLAIN_QUEUE:
            self._move_on(deaths, error)
        return False

    def _move_on(self, deaths: int, error: BaseException) -> None:
        """
        Publish the call again to its task's own queue: the plain queue of RabbitMQ counts nothing.
        """
        message, platform = self._message, self._task.platform
        queue = platform.router.route(self._task.name, task_queue=self._task.policy.queue).queue
        headers = {name: value for name, value in message.headers.items() if name != "compression"}
        patience = platform.settings.publish_timeout / 4
        declared = platform.app.amqp.queues[queue]
        try:
            with platform.app.producer_or_acquire() as producer:
                producer.publish(
                    message.body,
                    exchange=declared.exchange,
                    routing_key=declared.routing_key,
                    declare=[declared],
                    headers={**headers, DEATHS: deaths},
                    content_type=message.content_type,
                    content_encoding=message.content_encoding,
                    correlation_id=self.id,
                    delivery_mode=2,
                    mandatory=True,
                    timeout=patience,
                    confirm_timeout=patience,
                )
        except Exception as refused:  # noqa: BLE001 - it stays in the plain queue then, and is tried again
            logger.warning("%s[%s] could not be moved after %r: %s", self.name, self.id, error, refused)
        else:
            self.acknowledge()

    def _bury(self, reason: str, error: Exception) -> bool:
        task = self._task
        call = call_from(task.name, self._context)
        outcome = Buried(reason, error)
        letter = burial.letter_of(task, call, outcome, self._context)
        try:
            burial.keep(task, letter, call)
        except StoreError as away:
            logger.warning("The dead letter of %s[%s] could not be written: %s", call.task, call.id, away)
            return False
        logger.error("%s[%s] is a dead letter now (%s): %s", call.task, call.id, reason, letter.error)
        return True

    def _end(self, error: Exception, exc_info: Any, *, store: bool) -> None:
        task_ready(self)
        if store:
            self._task.backend.mark_as_failure(self.id, error, request=self._context, store_result=self.store_errors)
        self.acknowledge()
        self.send_event("task-failed", exception=safe_repr(error), traceback=exc_info.traceback)
