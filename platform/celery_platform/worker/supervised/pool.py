"""
Be the pool that Celery's worker starts, grows and stops, although its children take their work from the broker.
"""

from __future__ import annotations

import gc
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from billiard.common import TERM_SIGNAL
from celery.concurrency.base import BasePool
from celery.worker import state as worker_state

from celery_platform.errors import ConfigurationError
from celery_platform.transport.redis import Transport, open_consumer
from celery_platform.transport.steward import Steward
from celery_platform.worker.supervised.child import Berth
from celery_platform.worker.supervised.served_queues import ServedQueues
from celery_platform.worker.supervised.supervisor import Supervisor

if TYPE_CHECKING:
    from celery_platform.worker.supervised.census import Census

__all__ = ["SupervisedPool"]


class SupervisedPool(BasePool):
    """Children that fetch for themselves, on our Redis transport."""

    supervisor: Supervisor

    def on_start(self) -> None:
        """
        Fork the children; they fetch nothing before the worker consumes.

        Raises `ConfigurationError` on any other transport.
        """
        connection = self.app.connection_for_read()
        if not isinstance(connection.transport, Transport):
            raise ConfigurationError(
                f"The pool 'supervised' works on Redis only, and this broker is {connection.transport.driver_type!r}. "
                "Start the worker with `-P prefork`."
            )
        steward = Steward(open_consumer(connection, ()))
        options = self.options
        berth = partial(
            Berth,
            parent=os.getpid(),
            hostname=options["initargs"][1],
            soft_limit=options.get("soft_timeout"),
            hard_limit=options.get("timeout"),
            most_runs=options.get("maxtasksperchild"),
            most_memory=options.get("max_memory_per_child"),
        )
        self.supervisor = Supervisor(self.app, steward, berth, self.limit)
        self.app.amqp.Consumer = partial(ServedQueues, self.supervisor)
        # What is there now stays there in all children: sharing its pages is worth more than looking at them.
        gc.collect()
        gc.freeze()
        self.supervisor.start()

    @property
    def census(self) -> Census:
        """What the children are doing."""
        return self.supervisor.census

    def attend(self, consumer: Any) -> None:
        """
        Work for Celery's *consumer* from now on: its events, its remote control.
        """
        self.census.worker = consumer
        self.census.install()
        self.census.tell_limits()
        self.census.tell_events()
        self.census.tell_revoked()

    def on_stop(self) -> None:
        """
        Wait until every child has finished the call it runs; in a cold shutdown, make them end.
        """
        state: Any = worker_state
        if state.should_terminate not in (None, False):
            self.supervisor.terminate()
        self.supervisor.stop()

    def on_terminate(self) -> None:
        """
        Make every child end.
        """
        self.supervisor.terminate()
        self.supervisor.stop()

    def kill_children(self) -> int:
        """
        Kill every child; what it had not finished goes back. Return how many there were.
        """
        children = len(self.supervisor.children)
        self.supervisor.kill()
        return children

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """
        Send *signal* to the child that runs a call which must end.
        """
        child = self.supervisor.of_pid(pid)
        if child is not None:
            child.expected = True
            child.send(signal or TERM_SIGNAL)

    def grow(self, n: int = 1) -> None:
        """
        Have *n* children more.
        """
        self.supervisor.resize(self.supervisor.limit + n)

    def shrink(self, n: int = 1) -> None:
        """
        Have *n* children less; idle ones go first, a busy one finishes its call.
        """
        self.supervisor.resize(self.supervisor.limit - n)

    def soft_stop(self, request: Any) -> None:
        """
        Raise `SoftTimeLimitExceeded` in the body of *request*, if it still runs.
        """
        child = self.supervisor.of_pid(request.worker_pid)
        if child is not None:
            self.supervisor.overseer.soft_stop(child, request.message.delivery.number)

    def restart(self) -> None:
        """
        Replace every child when its call has ended.
        """
        with self.supervisor.lock:
            for child in list(self.supervisor.children):
                self.supervisor.dismiss(child)

    def did_start_ok(self) -> bool:
        """
        Tell whether the children live.
        """
        return all(child.alive() for child in self.supervisor.children)

    @property
    def num_processes(self) -> int:
        """How many children there shall be."""
        return self.supervisor.limit

    def _get_info(self) -> dict[str, Any]:
        options = self.options
        return {
            "implementation": f"{type(self).__module__}:{type(self).__name__}",
            "max-concurrency": self.supervisor.limit,
            "processes": self.supervisor.pids,
            "max-tasks-per-child": options.get("maxtasksperchild") or "N/A",
            "put-guarded-by-semaphore": False,
            "timeouts": (options.get("soft_timeout") or 0, options.get("timeout") or 0),
            "writes": "N/A",
        }
