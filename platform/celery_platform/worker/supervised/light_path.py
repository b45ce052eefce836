"""
Run an ordinary call straight through its tracer, without the request that Celery's worker keeps for it.

The tracer is Celery's own, so signals, hooks, callbacks, chains, chords and states are Celery's. What a request does
for a call that succeeds is done here in a few lines; a call that ends otherwise gets its request then, and whatever is
unusual from the start takes the stock path: an eta, an expiry, a rate limit, a revocation, a task of another build.
"""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from billiard.einfo import ExceptionInfo
from celery import signals
from celery.app import trace
from celery.app.task import Context
from celery.worker import state as worker_state
from celery.worker import strategy
from celery.worker.request import Request

from celery_platform.worker.request import PlatformRequest

if TYPE_CHECKING:
    from celery_platform.transport.envelope import Delivery
    from celery_platform.worker.supervised.ledger import Ledger
    from celery_platform.worker.supervised.slate import Slate
    from celery_platform.worker.supervised.stock_path import ChildConsumer

__all__ = ["LightPath"]

logger = logging.getLogger("celery.worker.strategy")

_KNOWN = frozenset({*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression"})
_BODY_PARTS = 3


@dataclass(frozen=True, slots=True)
class _Plan:
    """How calls of one task run: its tracer, its limits in seconds, whether its events are wanted."""

    trace: Any
    soft_limit: float | None
    hard_limit: float | None
    sends_events: bool


class LightPath:
    """The ordinary calls of one child."""

    def __init__(
        self, worker: ChildConsumer, ledger: Ledger, slate: Slate, limits: tuple[float | None, float | None]
    ) -> None:
        self._worker = worker
        self._ledger = ledger
        self._slate = slate
        self._limits = limits
        self._plans: dict[str, _Plan] = {}
        self._does_info = logger.isEnabledFor(logging.INFO)
        self.refresh()

    def refresh(self) -> None:
        """
        Look again which tasks are ordinary; call it when their limits have changed.
        """
        worker = self._worker
        self._plans = {name: self._plan(task) for name, task in worker.app.tasks.items() if _is_ordinary(task, worker)}

    def take(self, delivery: Delivery) -> bool:
        """
        Run *delivery* and enter it as finished; return False when it must take the stock path, and has not run.
        """
        message = delivery.message
        headers = message["headers"]
        name = headers.get("task")
        plan = self._plans.get(name) if isinstance(name, str) else None
        if plan is None or not self._is_ordinary(message, headers) or signals.task_received.receivers:
            return False
        body = _read(message)
        if body is None:
            return False
        self._run(plan, delivery, headers, body)
        return True

    def _plan(self, task: Any) -> _Plan:
        events = self._worker.event_dispatcher
        soft, hard = self._limits
        return _Plan(
            trace=task.__trace__,
            soft_limit=task.soft_time_limit or soft,
            hard_limit=task.time_limit or hard,
            sends_events=bool(events.enabled and (not events.groups or "task" in events.groups) and task.send_events),
        )

    def _is_ordinary(self, message: dict[str, Any], headers: dict[str, Any]) -> bool:
        get = headers.get
        return (
            get("eta") is None
            and get("expires") is None
            and get("compression") is None
            and not (worker_state.revoked_stamps and get("stamps"))
            and isinstance(get("id"), str)
            and headers["id"] not in worker_state.revoked
            and get("timelimit") in _NO_LIMITS
            and message.get("content-type") == "application/json"
            and message.get("content-encoding") == "utf-8"
            and message["properties"].get("body_encoding") == "base64"
        )

    def _run(self, plan: _Plan, delivery: Delivery, headers: dict[str, Any], body: list[Any]) -> None:
        call_id, name = headers["id"], headers.get("shadow") or headers["task"]
        if self._does_info:
            self._log(headers)
        send = self._worker.event_dispatcher.send if plan.sends_events else None
        if send is not None:
            self._tell_received(send, headers)
        worker_state.total_count[name] += 1
        worker_state.all_total_count[0] += 1
        self._slate.limit(plan.soft_limit, plan.hard_limit)
        if send is not None:
            send("task-started", uuid=call_id)
        try:
            failure, info, runtime, shown = plan.trace(
                call_id, body[0], body[1], self._request(delivery, headers, body)
            )
        except Exception:  # noqa: BLE001 - the request decides what each means
            self._worker.request_of(delivery).on_failure(ExceptionInfo())
            return
        if info is not None:
            self._worker.request_of(delivery).on_success((1, failure, runtime))
            return
        self._ledger.finish(delivery)
        if send is not None:
            send("task-succeeded", uuid=call_id, result=shown, runtime=runtime)

    def _request(self, delivery: Delivery, headers: dict[str, Any], body: list[Any]) -> dict[str, Any]:
        properties = delivery.message["properties"]
        information = properties["delivery_info"]
        args, kwargs, embed = body
        own = {name: value for name, value in headers.items() if name not in _KNOWN}
        return {
            **headers,
            "headers": own or None,
            "properties": properties,
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id"),
            "hostname": self._worker.hostname,
            "delivery_info": {
                "exchange": information.get("exchange"),
                "routing_key": information.get("routing_key"),
                "priority": properties.get("priority"),
                "redelivered": information.get("redelivered", False),
            },
            "args": args,
            "kwargs": kwargs,
            "is_eager": False,
            **(embed or {}),
        }

    def _log(self, headers: dict[str, Any]) -> None:
        context = {
            "id": headers["id"],
            "name": headers.get("shadow") or headers["task"],
            "args": headers.get("argsrepr", ""),
            "kwargs": headers.get("kwargsrepr", ""),
            "eta": None,
        }
        logger.info(trace.LOG_RECEIVED, context, extra={"data": context})

    def _tell_received(self, send: Any, headers: dict[str, Any]) -> None:
        send(
            "task-received",
            uuid=headers["id"],
            name=headers.get("shadow") or headers["task"],
            args=headers.get("argsrepr", ""),
            kwargs=headers.get("kwargsrepr", ""),
            root_id=headers.get("root_id"),
            parent_id=headers.get("parent_id"),
            retries=headers.get("retries", 0),
            eta=None,
            expires=None,
        )


_NO_LIMITS: tuple[Any, ...] = (None, [None, None])
_REQUESTS = (
    Request,
    PlatformRequest,
    "celery.worker.request:Request",
    "celery_platform.worker.request:PlatformRequest",
)


def _is_ordinary(task: Any, worker: ChildConsumer) -> bool:
    contract = getattr(task, "contract", None)
    return (
        task.Request in _REQUESTS
        and task.Strategy in {strategy.default, "celery.worker.strategy:default"}
        and bool(task.acks_late)
        and worker.task_buckets[task.name] is None
        and not (contract is not None and contract.private)
    )


def _read(message: dict[str, Any]) -> list[Any] | None:
    try:
        raw = base64.b64decode(message["body"])
        # Values that kombu tags with their type are kombu's to restore.
        body: Any = None if b'"__type__"' in raw else orjson.loads(raw)
    except ValueError:
        return None
    match body:
        case [list(), dict(), dict() | None]:
            return list(body)
    return None
