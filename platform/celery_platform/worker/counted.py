"""
Count each call where its message is settled: in the main process, or in a child that fetches for itself.

A call is counted as ended in the same breath as it is acknowledged, and so exactly once, however many processes died
with it before. Celery makes a subclass of the request class for each task and calls nothing of ours when a call
succeeds; `__init_subclass__` is where that class can still be reached.
"""

from __future__ import annotations

import time
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # the stubs leave it out
from billiard.exceptions import Terminated
from celery import Task
from celery.exceptions import Ignore, Retry
from celery.worker.request import Request

from celery_platform.endings import Deferral, Discarded
from celery_platform.headers import ENQUEUED_AT, FAILURES, READY_AT, queue_of
from celery_platform.instrumentation import counting
from celery_platform.worker.request import PlatformRequest

if TYPE_CHECKING:
    from celery_platform.celery_app import PlatformCelery
    from celery_platform.instrumentation.tally import Tally

__all__ = ["CountedPlatformRequest", "CountedRequest", "install"]


def install(app: PlatformCelery) -> None:
    """
    Count the calls of every task of *app*, plain Celery's included.
    """
    for task in app.tasks.values():
        counted = _COUNTED.get(task.Request)
        if counted is not None:
            task.Request = counted


_COUNTED = {
    Task.Request: f"{__name__}:CountedRequest",
    f"{PlatformRequest.__module__}:{PlatformRequest.__name__}": f"{__name__}:CountedPlatformRequest",
}


class _Counted:
    """What a request adds to the counts; stands in front of a class of requests."""

    name: str
    _request_dict: dict[str, Any]
    _delivery_info: dict[str, Any]
    _counted = False
    _returned = False
    _succeeded = False
    _ran: float | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, counting_one in (("on_success", _counting_success), ("execute_using_pool", _counting_receipt)):
            if (found := cls.__dict__.get(name)) is not None:
                setattr(cls, name, counting_one(found))

    @cached_property
    def _labels(self) -> tuple[str, str]:
        return self._request_dict["task"], queue_of(self._delivery_info.get("routing_key")) or ""

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        """
        Count a run that begins, and how long its message waited.
        """
        super().on_accepted(pid, time_accepted)  # type: ignore[misc]
        if (counts := self._add("celery_task_started")) is not None:
            ready = self._request_dict.get(READY_AT)
            if isinstance(ready, (int, float)):
                counts.observe(("celery_task_queue_wait_time", *self._labels), max(0.0, time.time() - ready))

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """
        Count a call that ended at its hard limit.
        """
        super().on_timeout(soft, timeout)  # type: ignore[misc]
        if not soft and not self._given_back():
            self._ended("dead", "celery_task_failed", "TimeLimitExceeded")

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """
        Count how a run ended that has no value.
        """
        super().on_failure(exc_info, send_failed_event, return_ok)  # type: ignore[misc]
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if self._succeeded:
            self.succeeded()
        if self._counted or self._given_back():
            return
        match error:
            case Deferral():
                self._add("celery_platform_deferred", error.by)
            case Discarded():
                self._ended("cancelled" if "cancelled" in str(error) else "discarded", "celery_task_revoked")
            case Retry():
                self._add("celery_task_retried")
            case Terminated():
                self._ended("cancelled", "celery_task_revoked")
            case Ignore():
                pass
            case _ if self.acknowledged:
                self._ended("dead", "celery_task_failed", type(error).__name__)

    acknowledged: bool

    def reject(self, requeue: bool = False) -> None:
        """
        Note that the message goes back, or nowhere.
        """
        self._returned = self._returned or not self.acknowledged
        super().reject(requeue)  # type: ignore[misc]

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        super()._announce_revoked(reason, terminated, signum, expired)  # type: ignore[misc]
        self._ended("expired" if expired else "cancelled", "celery_task_revoked")

    def received(self) -> None:
        """
        Count a delivery that a pool is given.
        """
        self._add("celery_task_received")

    def succeeded(self) -> None:
        """
        Count a call that ended with a value.
        """
        self._ended("succeeded", "celery_task_succeeded")

    def _success_was_stored(self) -> Any:
        # Celery asks it of a lost process, and acknowledges the call as a success if it says so.
        stored = super()._success_was_stored()  # type: ignore[misc]
        self._succeeded = bool(stored)
        return stored

    def _given_back(self) -> bool:
        if self._returned and not self._counted:
            self._add("celery_task_rejected")
        return self._returned

    def _ended(self, outcome: str, family: str, *more: str) -> None:
        # The result of a process taken for lost may still arrive: its message went back, and its next run counts.
        if self._counted or self._returned:
            return
        self._counted = True
        counts = self._add(family, *more)
        if counts is None:
            return
        counts.add(("celery_platform_ended", *self._labels, outcome))
        fields = self._request_dict
        failures = fields.get(FAILURES)
        attempts = 1 + (failures if isinstance(failures, int) else 0)
        counts.observe(("celery_platform_attempts", *self._labels), attempts)
        if self._ran is not None:
            counts.observe(("celery_task_runtime", *self._labels), self._ran)
        first = fields.get(ENQUEUED_AT)
        if isinstance(first, (int, float)):
            counts.observe(("celery_platform_end_to_end_seconds", *self._labels), max(0.0, time.time() - first))

    def _add(self, family: str, *more: str) -> Tally | None:
        counts = counting.tally()
        if counts is not None:
            counts.add((family, *self._labels, *more))
        return counts


def _counting_success(success: Any) -> Any:
    @wraps(success)
    def on_success(self: Any, result: Any, **options: Any) -> None:
        self._ran = result[2]
        success(self, result, **options)
        if not result[0]:
            self.succeeded()

    return on_success


def _counting_receipt(execute: Any) -> Any:
    @wraps(execute)
    def execute_using_pool(self: Any, *args: Any, **options: Any) -> Any:
        self.received()
        return execute(self, *args, **options)

    return execute_using_pool


class CountedRequest(_Counted, Request):
    """A received call of a plain Celery task."""


class CountedPlatformRequest(_Counted, PlatformRequest):
    """A received call of a platform task."""
