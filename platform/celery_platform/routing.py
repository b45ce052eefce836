"""
Choose the queue and the priority of a call: per call, by decorator, by task name, or the default.

Priority classes are the same on every broker: `critical`, `high`, `normal`, `low`, `bulk`. Redis and RabbitMQ number
priorities in opposite directions; `priority_number` is the one place that knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, get_args

from celery_platform.errors import ConfigurationError, PolicyError, UnknownQueue, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "CLASSES",
    "DEAD_EXCHANGE",
    "DEFAULT_QUEUE",
    "PLAIN_QUEUE",
    "REDIS_STEPS",
    "PriorityClass",
    "Route",
    "Router",
    "priority_number",
]

PriorityClass = Literal["critical", "high", "normal", "low", "bulk"]
CLASSES: tuple[PriorityClass, ...] = get_args(PriorityClass)
DEFAULT_QUEUE = "default"
# Plain producers in any language publish here unless told otherwise; every worker serves it.
PLAIN_QUEUE = "celery"
# Where RabbitMQ puts what it gives up on: the exchange, and the queue that the workers drain.
DEAD_EXCHANGE = "platform.dead"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Redis keeps a list a step and reads low numbers first; quorum queues know two levels (above 4, and the rest).
_REDIS: Mapping[str, int] = {"critical": 0, "high": 3, "normal": 6, "low": 8, "bulk": 9}
# One list a class; stock workers read all of them but that of `low`.
REDIS_STEPS = sorted(_REDIS.values())
_AMQP: Mapping[str, int] = {"critical": 9, "high": 7, "normal": 4, "low": 2, "bulk": 0}


def priority_number(priority: str, *, broker: str) -> int:
    """
    Return what *broker* (``redis``, ``amqp``, ``sqs``) calls the class *priority*.

    Raises `PolicyError` for a class nobody knows.
    """
    if priority not in CLASSES:
        raise PolicyError(
            f"priority expected one of {', '.join(CLASSES)}, got {priority!r}.{did_you_mean(str(priority), CLASSES)}"
        )
    return (_AMQP if broker == "amqp" else _REDIS)[priority]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call goes, and the *rule* that said so."""

    queue: str
    priority: PriorityClass | None
    rule: str


class Router:
    """
    Know the declared queues, and which tasks go where.

    *queues* are the declared names; `default` and `celery` are always among them. *routes* maps task name patterns
    (shell wildcards, ``tasks.billing.*``) to a queue, written ``queue`` or ``queue:priority``; the first match wins.

    Raises `UnknownQueue` and `ConfigurationError` for routes that lead nowhere.
    """

    def __init__(self, queues: Iterable[str], routes: Mapping[str, str]) -> None:
        self.queues = tuple(dict.fromkeys([DEFAULT_QUEUE, *queues, PLAIN_QUEUE]))
        for name in self.queues:
            if not _NAME.fullmatch(name):
                raise ConfigurationError(
                    f"PLATFORM_QUEUES: {name!r} is not a queue name. "
                    "Expected letters, digits, '.', '_' or '-', at most 100."
                )
        self.routes = tuple((pattern, *self._target(pattern, target)) for pattern, target in routes.items())

    def known(self, queue: str) -> str:
        """
        Return *queue* when it is declared.

        Raises `UnknownQueue` otherwise.
        """
        if queue not in self.queues:
            raise UnknownQueue(queue, self.queues)
        return queue

    def route(
        self,
        task: str,
        *,
        call_queue: str | None = None,
        task_queue: str | None = None,
        task_priority: PriorityClass | None = None,
    ) -> Route:
        """
        Return the route of a call to *task*: the call's own word, the decorator's, a pattern's, or the default.

        A priority that the winner does not give falls back to the decorator's.
        """
        if call_queue is not None:
            return Route(self.known(call_queue), task_priority, "queue given with the call")
        if task_queue is not None:
            return Route(task_queue, task_priority, "queue of the task's decorator")
        for pattern, queue, priority in self.routes:
            if fnmatchcase(task, pattern):
                return Route(queue, priority or task_priority, f"route pattern {pattern!r}")
        return Route(DEFAULT_QUEUE, task_priority, "default queue")

    def _target(self, pattern: str, target: str) -> tuple[str, PriorityClass | None]:
        queue, _, priority = target.partition(":")
        self.known(queue)
        if not priority:
            return queue, None
        for known in CLASSES:
            if priority == known:
                return queue, known
        raise ConfigurationError(
            f"PLATFORM_ROUTES: {pattern!r} leads to priority {priority!r}; expected one of {', '.join(CLASSES)}."
            f"{did_you_mean(priority, CLASSES)}"
        )
