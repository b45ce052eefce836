"""
Hold the processes of a worker to their memory, so that a greedy task fails instead of the whole pod.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals

from celery_platform.machine import limit_memory

if TYPE_CHECKING:
    from celery_platform.celery_app import PlatformCelery

__all__ = ["PoolChecks", "install"]

logger = logging.getLogger("celery_platform.checks")

_WITH_PROCESSES = ("prefork", "supervised")


def install(app: PlatformCelery) -> None:
    """
    Limit the memory of every process that is born from now on, if a limit is set.
    """
    limit = app.platform.settings.memory_limit
    app.steps["worker"].add(PoolChecks)
    if limit is None:
        return

    def born(**_: Any) -> None:
        limit_memory(limit)

    signals.worker_process_init.connect(born, weak=False, dispatch_uid=f"celery_platform.memory.{id(app)}")


class PoolChecks(bootsteps.Step):
    """Refuse a pool that cannot do what it is asked for."""

    requires = ("celery.worker.components:Pool",)

    def create(self, parent: Any) -> None:
        """
        Look at the pool of the worker *parent*.

        Raises `SystemExit` with the remedy: a signal handler's error would only be logged.
        """
        pool = parent.pool_cls.__module__.rpartition(".")[2]
        if any(name in parent.pool_cls.__module__ for name in _WITH_PROCESSES):
            return
        asked = {
            "PLATFORM_MEMORY_LIMIT": parent.app.platform.settings.memory_limit,
            "--max-memory-per-child": parent.max_memory_per_child,
            "--max-tasks-per-child": parent.max_tasks_per_child,
        }
        for name, value in asked.items():
            if value:
                raise SystemExit(
                    f"celery-platform: the worker does not start. {name} is {value}, and the pool {pool} has no "
                    "processes of its own to hold to it. Choose --pool=prefork, or leave it out."
                )
