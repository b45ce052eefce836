"""
Celery's Redis result backends: no subscription that every publish would wait for, and results stored many at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.states import SUCCESS

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.app.base import Celery

__all__ = ["RedisResults", "SentinelResults", "install"]


class _OnRedis:
    """
    Leave the subscription to whoever waits for the result, and results of successes to an outbox, where there is one.

    Stock subscribes to the result's channel before it publishes: another round trip a call, and a `delay()` that hangs
    when the result store is down. Waiting subscribes by itself and then looks at what is stored already, so that
    nothing is missed.
    """

    outbox: list[tuple[str, bytes]] | None = None
    """Where results wait to be stored together: keys and values. Whoever sets it stores them."""

    before_read: Callable[[], None] | None = None
    """Stores what waits, before this process looks at any result."""

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """
        Do nothing.
        """

    def get(self, key: Any) -> Any:
        """
        Return what is stored under *key*; what waits is stored first.
        """
        if self.outbox and self.before_read is not None:
            self.before_read()
        return super().get(key)  # type: ignore[misc]

    def mget(self, keys: Any) -> Any:
        """
        Return what is stored under *keys*; what waits is stored first.
        """
        if self.outbox and self.before_read is not None:
            self.before_read()
        return super().mget(keys)  # type: ignore[misc]

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        if self.outbox is None or state != SUCCESS or request is None or not _is_first_and_alone(request):
            return super()._store_result(task_id, result, state, traceback, request, **kwargs)  # type: ignore[misc]
        backend: Any = self
        meta = backend._get_result_meta(result, state, traceback, request)  # noqa: SLF001
        meta["task_id"] = task_id
        self.outbox.append((backend.get_key_for_task(task_id), _written(backend, meta)))
        return result


def _is_first_and_alone(request: Any) -> bool:
    # A call that ran before may have stored its success already; the last part of a chord has others wait for it.
    return not (request.chord or (request.delivery_info or {}).get("redelivered"))


def _written(backend: Any, meta: dict[str, Any]) -> bytes:
    if backend.serializer == "json" and not backend.compression:
        try:
            return orjson.dumps(meta, option=_PLAIN)
        except TypeError:
            pass
    text: str | bytes = backend.encode(meta)
    return text.encode() if isinstance(text, str) else text


# What the standard library would write otherwise is left to kombu.
_PLAIN = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS


class RedisResults(_OnRedis, RedisBackend):
    """Results on Redis."""


class SentinelResults(_OnRedis, SentinelBackend):
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
