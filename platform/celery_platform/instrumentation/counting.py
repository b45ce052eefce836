"""
Count what happens in this process: the facts of `events`, and what the worker's requests come to.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from celery_platform import events
from celery_platform.errors import ConfigurationError
from celery_platform.instrumentation.tally import Tally

if TYPE_CHECKING:
    from celery_platform.settings import Settings

__all__ = ["begin", "tally"]

_tally: Tally | None = None


def begin(settings: Settings) -> Tally | None:
    """
    Count from now on, in this process and those it forks; nothing without a port to show the counts on.

    Raises `ConfigurationError` when `PLATFORM_METRICS_PORT` is set and the extra `metrics` is not installed.
    """
    global _tally  # noqa: PLW0603 - one set of counts a process
    if settings.metrics_port is None and settings.health_port is None:
        return None
    if find_spec("prometheus_client") is None:
        if settings.metrics_port is None:
            return None
        raise ConfigurationError(
            "PLATFORM_METRICS_PORT is set, and the library that writes metrics is not installed. "
            'Install it with `pip install "celery-platform[metrics]"`, or leave the port out.'
        )
    if _tally is None:
        _tally = Tally()
        events.subscribe(note)
    return _tally


def tally() -> Tally | None:
    """
    Return the counts of this process, if it counts.
    """
    return _tally


def note(event: events.CallEvent) -> None:
    """
    Count *event*, if it is one that is counted; outcomes are the worker's to count, when it settles the message.
    """
    if _tally is None:
        return
    call = (event.task, event.queue or "")
    match event:
        case events.CallEnqueued():
            _tally.add(("celery_task_sent", *call))
        case events.CallDeduplicated():
            _tally.add(("celery_platform_deduplicated", *call))
        case events.CallBuried():
            _tally.add(("celery_platform_dead", *call, event.reason))
        case events.BreakerMoved():
            _tally.add(("celery_platform_breaker_moves", event.breaker.partition("|")[0], event.now))
        case events.LimitPassed():
            _tally.add(("celery_platform_limit_dry_run", event.limit.partition("|")[0]))
        case events.GuardsUnreachable():
            _tally.add(("celery_platform_guards_unreachable", event.rule))
        case events.LeaseTakenOver():
            _tally.add(("celery_platform_lease_takeovers",), event.messages)
