"""
Tell at start-up what the chosen broker cannot do for these tasks; docs/brokers.md has the whole table.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from celery_platform.worker.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from celery_platform.celery_app import PlatformCelery

__all__ = ["gaps_of_rabbitmq", "gaps_of_sqs", "longest_run", "tasks_with_priority", "version_of"]

# The consumer timeout of a RabbitMQ that nobody configured, in seconds.
_CONSUMER_TIMEOUT = 1_800
# From this version on a queue may have its own, and from the other one quorum queues know priorities.
_OWN_TIMEOUT = (3, 12)
_PRIORITIES = (4, 0)
# The longest SQS hides a message, in seconds.
_LONGEST_HIDDEN = 43_200
_SHOWN = 3


def version_of(server_properties: Mapping[str, Any]) -> tuple[int, int] | None:
    """
    Return major and minor version of the RabbitMQ that introduced itself so, or nothing when it does not say.
    """
    found = re.match(r"(\d+)\.(\d+)", str(server_properties.get("version", "")))
    return (int(found[1]), int(found[2])) if found else None


def longest_run(app: PlatformCelery) -> float | None:
    """
    Return how long a call may run here, in seconds; nothing when one has no limit at all.
    """
    limits = [task.time_limit or app.conf.task_time_limit for task in _own_tasks(app)]
    return None if None in limits else max(limits, default=0.0)


def tasks_with_priority(app: PlatformCelery) -> list[str]:
    """
    Return the names of the tasks whose decorator gives a priority.
    """
    return sorted(task.name for task in _own_tasks(app) if getattr(getattr(task, "policy", None), "priority", None))


def gaps_of_rabbitmq(
    version: tuple[int, int] | None, *, longest: float | None, prioritised: Sequence[str]
) -> Iterator[Finding]:
    """
    Yield what RabbitMQ *version* cannot do; *longest* is in seconds, as `longest_run` gives it.
    """
    if version is None:
        return
    name = f"RabbitMQ {version[0]}.{version[1]}"
    if version < _OWN_TIMEOUT and (longest is None or longest > _CONSUMER_TIMEOUT):
        yield Finding(
            "warn",
            f"{name} takes a call from its worker, and in the end for dead, once it has run longer than the broker's "
            f"consumer_timeout (30 minutes unless configured); calls here may run {_told(longest)}.",
            "Raise consumer_timeout in rabbitmq.conf, set a shorter timeout= or PLATFORM_TIME_LIMIT, or use 3.12.",
        )
    if version < _PRIORITIES and prioritised:
        yield Finding(
            "warn",
            f"The quorum queues of {name} know no priorities: those of {_some(prioritised)} have no effect.",
            "Give urgent tasks a queue of their own, or use RabbitMQ 4.",
        )


def gaps_of_sqs(*, longest: float | None, prioritised: Sequence[str]) -> Iterator[Finding]:
    """
    Yield what SQS cannot do; *longest* is in seconds, as `longest_run` gives it.
    """
    yield Finding(
        "warn",
        "SQS has no remote control and no events: inspect, control, Flower and a stop of running calls do not work.",
        "Watch the results and the dead letters; `cancel` reaches a running body through current_call().cancelled.",
    )
    if prioritised:
        yield Finding(
            "warn",
            f"SQS knows no priorities: those of {_some(prioritised)} have no effect.",
            "Give urgent tasks a queue of their own.",
        )
    if longest is None or longest > _LONGEST_HIDDEN:
        yield Finding(
            "warn",
            f"SQS delivers a call again after twelve hours, though it still runs; calls here may run {_told(longest)}.",
            "Set a shorter timeout= or PLATFORM_TIME_LIMIT.",
        )


def _own_tasks(app: PlatformCelery) -> Iterable[Any]:
    return [task for name, task in app.tasks.items() if not name.startswith("celery.")]


def _told(longest: float | None) -> str:
    return "without a limit" if longest is None else f"{longest:g} s"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
