"""
What the platform adds to Celery's worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_platform.celery_app import PlatformCelery

__all__ = ["install"]


def install(app: PlatformCelery) -> None:
    """
    Connect the platform's parts to *app*: start-up checks, and the drain that buries what no worker could run.
    """
    import celery_platform.worker.control  # noqa: F401 - the command registers itself
    from celery_platform.beat import runs
    from celery_platform.worker import (
        casualties,
        checks,
        dead_exchange,
        limits,
        pauses,
        pools,
        pulse,
        replays,
        shutdown,
    )

    app.steps["worker"].add(checks.StartUpChecks)
    app.steps["worker"].add(pulse.Probes)
    pools.install(default=False)
    limits.install(app)
    shutdown.install(app)
    runs.install(app)
    replays.install(app)
    app.steps["consumer"].add(pauses.QueuePauses)
    app.steps["consumer"].add(pulse.LoopPulse)
    app.conf.worker_consumer = "celery_platform.worker.doors:PlatformConsumer"
    if app.platform.settings.is_redis:
        app.steps["worker"].add(casualties.CasualtyDrain)
    if app.platform.settings.broker_kind == "amqp":
        app.steps["worker"].add(dead_exchange.DeadExchangeDrain)
