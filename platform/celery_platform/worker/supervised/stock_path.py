"""
Run a call in a child with Celery's own code: strategy, request, tracer.

The consumer here is Celery's, without a connection: it judges messages, makes requests of them and runs each at once.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import time
from collections import defaultdict, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool
from celery.exceptions import TaskRevokedError
from celery.worker import state as worker_state
from kombu.serialization import prepare_accept_content
from kombu.utils.imports import symbol_by_name

from celery_platform.transport.envelope import SERVED, dumps
from celery_platform.worker.doors import PlatformConsumer
from celery_platform.worker.supervised.message import HeldMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_platform.transport.envelope import Delivery
    from celery_platform.worker.supervised.message import Parking
    from celery_platform.worker.supervised.slate import Slate

__all__ = ["ChildConsumer", "Hands"]

logger = logging.getLogger("celery_platform.worker")


class Hands(BasePool):
    """The pool of a child: one call at a time, in this process, announced on the slate."""

    def __init__(
        self,
        slate: Slate,
        limits: tuple[float | None, float | None],
        before_body: Callable[[], None],
        app: Any,
    ) -> None:
        super().__init__(limit=1, putlocks=False, app=app)
        self._slate = slate
        self._before_body = before_body
        self._soft, self._hard = limits

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        *,
        callback: Callable[[Any], None],
        error_callback: Callable[[Any], None],
        accept_callback: Callable[[int, float], None],
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> None:
        """
        Run *target* and tell its callbacks what became of it; only what ends the process escapes.
        """
        accept_callback(os.getpid(), time.monotonic())
        self._before_body()
        self._slate.limit(soft_timeout or self._soft, timeout or self._hard)
        try:
            result = target(*args, **(kwargs or {}))
        except Exception:  # noqa: BLE001 - the request decides what each means
            error_callback(ExceptionInfo())
        else:
            callback(result)


class Later:
    """The timer of a child: what is due runs between two calls."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._order = itertools.count()

    @property
    def pause(self) -> float:
        """How many seconds there are until something is due."""
        return max(0.0, self._heap[0][0] - time.time()) if self._heap else 60.0

    def call_at(self, when: float, run: Callable[..., Any], args: Any = (), **_: Any) -> None:
        """
        Call *run* at the Unix time *when*.
        """
        heapq.heappush(self._heap, (when, next(self._order), run, tuple(args)))

    def call_after(self, delay: float, run: Callable[..., Any], args: Any = (), **_: Any) -> None:
        """
        Call *run* in *delay* seconds.
        """
        self.call_at(time.time() + delay, run, args)

    def run_due(self) -> None:
        """
        Run what is due.
        """
        while self._heap and self._heap[0][0] <= time.time():
            _, _, run, args = heapq.heappop(self._heap)
            run(*args)


class _Prefetch:
    """Nobody counts what a child has at hand."""

    def increment_eventually(self, *_: Any) -> None:
        """
        Do nothing.
        """

    decrement_eventually = increment_eventually


class _Controller:
    """What Celery's consumer asks of its worker."""

    state = worker_state
    semaphore = None


class ChildConsumer(PlatformConsumer):
    """Celery's consumer in a child; `receive` judges and runs one delivery."""

    def __init__(  # Celery's own constructor would build what only a parent needs
        self, app: Any, hostname: str, pool: BasePool, holder: Parking, *, disable_rate_limits: bool = False
    ) -> None:
        self.app: Any = app
        self.hostname = hostname
        self.pool = pool
        self.holder = holder
        self.timer = Later()  # type: ignore[misc]  # the stubs call it read-only
        self.controller = _Controller()
        self.hub = None
        self.qos = _Prefetch()
        self.strategies: dict[str, Any] = {}
        self._ready: deque[Any] = deque()
        # Not run where it is judged: an error of its own must not be taken for one of its message.
        self.on_task_request = self._ready.append
        self.on_task_message: set[Any] = set()
        self.event_dispatcher: Any = None
        self.disable_rate_limits = disable_rate_limits
        self.siblings = 1
        self.task_buckets: Any = defaultdict(lambda: None)
        connection = app.connection_for_read()
        self.connection_errors = connection.connection_errors
        self.channel_errors = connection.channel_errors
        self._maximum_prefetch_restored = True
        self._accept = prepare_accept_content(app.conf.accept_content)
        self._receive: Callable[[Any], Any] = lambda _: None

    def open(self, dispatcher: Any) -> None:
        """
        Get ready to receive; events go to *dispatcher*.
        """
        self.event_dispatcher = dispatcher
        self.reset_rate_limits()
        self.update_strategies()
        self._receive = self.create_task_handler()

    def receive(self, delivery: Delivery) -> None:
        """
        Judge *delivery*, run it, and settle it through the holder.
        """
        try:
            message = HeldMessage(delivery, self.holder, self._accept)
        except Exception as error:  # noqa: BLE001 - whatever the bytes break, they are kept and the worker goes on
            logger.warning("A message of queue %r cannot be read: %s", delivery.queue, error)
            self.holder.bury(delivery, f"{type(error).__name__}: {error}")
            return
        if message.errors:
            message._reraise_error(self.on_decode_error)  # noqa: SLF001 - as kombu's own consumer does
            return
        self._receive(message)
        self.run_due()

    def request_of(self, delivery: Delivery) -> Any:
        """
        Return the request of a call that has run already.
        """
        message = HeldMessage(delivery, self.holder, self._accept)
        task = self.app.tasks[message.headers["task"]]
        request = symbol_by_name(task.Request)(
            message,
            on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
            app=self.app,
            hostname=self.hostname,
            eventer=self.event_dispatcher,
            task=task,
            connection_errors=self.connection_errors,
            body=message.body,
            headers=message.headers,
            decoded=False,
            utc=self.app.uses_utc_timezone(),
        )
        request.worker_pid = os.getpid()
        return request

    def run_due(self) -> None:
        """
        Run what has become ready.
        """
        self.timer.run_due()
        while self._ready:
            # Revoked meanwhile: Celery has told everybody.
            with suppress(TaskRevokedError):
                self._ready.popleft().execute_using_pool(self.pool)

    def call_soon(self, p: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """
        Call at once: there is no event loop.
        """
        p(*args, **kwargs)

    call_soon_ack = call_soon

    def bucket_for_task(self, type: Any) -> Any:  # noqa: A002 - Celery's name
        """
        Return the token bucket of a task: this child's share of the worker's rate.
        """
        bucket: Any = super().bucket_for_task(type)
        if bucket is not None:
            bucket.fill_rate /= max(self.siblings, 1)
        return bucket

    def _limit_task(self, request: Any, bucket: Any, tokens: int) -> None:
        if bucket.can_consume(tokens):
            worker_state.task_reserved(request)
            self.on_task_request(request)
            return
        # Not held here: another worker may have a free token, and this process may die.
        delivery = request.message.delivery
        delivery.message["properties"][SERVED] = True
        self.holder.park(delivery, bucket.expected_time(tokens), dumps(delivery.message))

    def _limit_post_eta(self, request: Any, bucket: Any, tokens: int) -> None:
        worker_state.task_ready(request)
        self._limit_task(request, bucket, tokens)
