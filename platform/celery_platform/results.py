"""
Celery's Redis result backends, without the subscription that every publish would wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.backends.redis import RedisBackend, SentinelBackend

if TYPE_CHECKING:
    from celery.app.base import Celery

__all__ = ["RedisResults", "SentinelResults", "install"]


class _QuietOnPublish:
    """
    Leave the subscription to whoever waits for the result.

    Stock subscribes to the result's channel before it publishes: another round trip a call, and a `delay()` that hangs
    when the result store is down. Waiting subscribes by itself and then looks at what is stored already, so that
    nothing is missed.
    """

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """
        Do nothing.
        """


class RedisResults(_QuietOnPublish, RedisBackend):
    """Results on Redis."""


class SentinelResults(_QuietOnPublish, SentinelBackend):
    """Results on Redis behind Sentinel."""


def install(app: Celery) -> None:
    """
    Make *app* keep its Redis results here.
    """
    here = "celery_platform.results"
    app.loader.override_backends = {
        "redis": f"{here}:RedisResults",
        "rediss": f"{here}:RedisResults",
        "sentinel": f"{here}:SentinelResults",
    }
