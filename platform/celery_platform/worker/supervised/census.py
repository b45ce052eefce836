"""
Tell remote control what the children are doing, as if the parent had received their calls itself.

Celery's commands read the requests that its worker keeps. Before one of them runs, the requests of what the children
hold are made from the server's books, and Celery's own code does the rest: `inspect active`, `revoke`, `terminate`.
"""

from __future__ import annotations

import functools
import logging
import time
from typing import TYPE_CHECKING, Any

from celery.worker import state as worker_state
from celery.worker.control import Panel
from kombu.serialization import prepare_accept_content
from kombu.utils.imports import symbol_by_name
from redis.exceptions import RedisError

from celery_platform.transport.envelope import Delivery, Undecodable, loads
from celery_platform.worker.supervised.message import HeldMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_platform.worker.supervised.children import Child
    from celery_platform.worker.supervised.supervisor import Supervisor

__all__ = ["Census"]

logger = logging.getLogger("celery_platform.worker")

_ASKS = ("active", "dump_active", "reserved", "dump_reserved", "query_task", "platform_soft_stop")
_REVOKES = ("revoke", "revoke_by_stamped_headers", "terminate", "hello")
_LIMITS = ("rate_limit", "time_limit")
_EVENTS = ("enable_events", "disable_events")


class _OnBehalf:
    """Settles what a child holds."""

    def __init__(self, supervisor: Supervisor, owner: str) -> None:
        self._steward, self._owner = supervisor.steward, owner

    def ack(self, delivery: Delivery) -> None:
        """
        Acknowledge.
        """
        self._steward.acknowledge(self._owner, [delivery.field])

    reject = ack

    def requeue(self, delivery: Delivery) -> None:
        """
        Leave it held: it goes back when the estate of the child is settled.
        """


class Census:
    """The requests of what the children hold. *worker* is Celery's consumer in the parent."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._app = supervisor.app
        self._accept = prepare_accept_content(self._app.conf.accept_content)
        self._known: dict[tuple[str, int], Any] = {}
        self.worker: Any = None

    def install(self) -> None:
        """
        Have Celery's commands answer for the children, too.
        """
        for name in _ASKS:
            self._wrap(name, before=self.take)
        for name in _REVOKES:
            self._wrap(name, before=self.take, after=self.tell_revoked)
        for name in _LIMITS:
            self._wrap(name, after=self.tell_limits)
        for name in _EVENTS:
            self._wrap(name, after=self.tell_events)

    def take(self) -> None:
        """
        Make the requests of everything the children hold, and forget those they no longer hold.
        """
        found: dict[tuple[str, int], Any] = {}
        active: set[Any] = set()
        for child, number, request in self._held():
            found[child.owner, number] = request
            seen = child.slate.glance()
            if seen.running and seen.number == number:
                self._mark_active(request, child)
                active.add(request)
        self._replace(found, active)

    def count(self) -> int:
        """
        Return how many calls run.
        """
        return sum(child.busy for child in self._supervisor.children)

    def running(self, child: Child) -> Any:
        """
        Return the request of the call that *child* runs, if there is one.
        """
        seen = child.slate.glance()
        entry = self._supervisor.steward.held(child.owner).get(seen.number)
        if entry is None or not seen.running:
            return None
        request = self.request_of(child.owner, child.pid, *entry)
        if request is not None:
            self._mark_active(request, child)
        return request

    def request_of(self, owner: str, pid: int, field: str, raw: bytes) -> Any:
        """
        Return the request that a message is, or None when it is none that Celery would run.
        """
        try:
            delivery = Delivery(field, field.partition("|")[2], raw, loads(raw))
            message = HeldMessage(delivery, _OnBehalf(self._supervisor, owner), self._accept)
            task = self._app.tasks[message.headers["task"]]
            request = symbol_by_name(task.Request)(
                message,
                on_ack=message.ack_log_error,
                on_reject=message.reject_log_error,
                app=self._app,
                hostname=getattr(self.worker, "hostname", None),
                eventer=getattr(self.worker, "event_dispatcher", None),
                task=task,
                connection_errors=getattr(self.worker, "connection_errors", ()),
                body=message.body,
                headers=message.headers,
                decoded=False,
                utc=self._app.uses_utc_timezone(),
            )
        except (Undecodable, LookupError, TypeError, ValueError, AttributeError) as error:
            logger.debug("No request can be made of %s: %s", field, error)
            return None
        request.worker_pid = pid
        return request

    def tell_revoked(self) -> None:
        """
        Tell the children what is revoked.
        """
        self._supervisor.revoke(worker_state.revoked, dict(worker_state.revoked_stamps))

    def tell_limits(self) -> None:
        """
        Tell the children the rates and times of all tasks.
        """
        tasks = {
            name: [task.rate_limit, task.soft_time_limit, task.time_limit] for name, task in self._app.tasks.items()
        }
        self._supervisor.tell("limits", siblings=max(1, self._supervisor.limit), tasks=tasks)

    def tell_events(self) -> None:
        """
        Tell the children which events are wanted.
        """
        dispatcher = getattr(self.worker, "event_dispatcher", None)
        groups = sorted(dispatcher.groups) if dispatcher is not None and dispatcher.enabled else None
        self._supervisor.tell("events", groups=groups)

    def _held(self) -> Iterator[tuple[Child, int, Any]]:
        for child in list(self._supervisor.children):
            for number, (field, raw) in self._supervisor.steward.held(child.owner).items():
                request = self._known.get((child.owner, number))
                request = request or self.request_of(child.owner, child.pid, field, raw)
                if request is not None:
                    yield child, number, request

    def _mark_active(self, request: Any, child: Child) -> None:
        request.time_start = time.time() - (time.monotonic() - child.slate.glance().started)

    def _replace(self, found: dict[tuple[str, int], Any], active: set[Any]) -> None:
        for key in self._known.keys() - found.keys():
            worker_state.task_ready(self._known[key])
        self._known = found
        for request in found.values():
            worker_state.requests[request.id] = request
            worker_state.reserved_requests.add(request)
            (worker_state.active_requests.add if request in active else worker_state.active_requests.discard)(request)

    def _wrap(
        self, name: str, *, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None
    ) -> None:
        command = Panel.data.get(name)
        if command is None:
            return
        command = getattr(command, "__wrapped__", command)

        @functools.wraps(command)
        def answer(state: Any, *args: Any, **kwargs: Any) -> Any:
            with self._supervisor.lock:
                if before is not None:
                    try:
                        before()
                    except (RedisError, OSError) as error:
                        logger.warning("What the processes of the worker hold cannot be read: %s", error)
                answered = command(state, *args, **kwargs)
                if after is not None:
                    after()
                return answered

        Panel.data[name] = answer
