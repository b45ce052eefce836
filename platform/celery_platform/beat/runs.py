"""
Tell the scheduler, from the worker, which copy of a firing runs and how its run ended.

A call counts as scheduled by its headers; every other call costs nothing here. A firing's message may be published
twice when a beat dies at the wrong moment; each publish names its copy, and the first copy that a worker sees is the
only one to run.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery import signals

from celery_platform.beat.scripts import CLAIM
from celery_platform.errors import StoreError
from celery_platform.headers import SCHEDULED_FOR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery_platform.stores.keys import Keys
    from celery_platform.stores.redis import RedisStore

__all__ = ["COPY", "Outcomes", "ended", "install", "may_run"]

logger = logging.getLogger("celery_platform.beat.runs")

COPY = "platform_firing_copy"
_LIFETIME = 7 * 86_400
_ENDS = {"SUCCESS": "succeeded", "FAILURE": "failed"}
_BATCH = 1000


def may_run(store: RedisStore, request: Any) -> bool:
    """
    Tell whether the message of *request* is the first copy of its firing, or no firing at all.

    When the store does not answer the run is let through: late work is worse than work done twice, and rarer.
    """
    copy = (request.headers or {}).get(COPY)
    if copy is None:
        return True
    try:
        return bool(CLAIM.run(store.client, (store.keys.beat_claim(request.id),), (copy, _LIFETIME * 1000)))
    except StoreError as error:
        logger.warning("%s runs without asking whether it is a duplicate: %s", request.id, error)
        return True


def ended(store: RedisStore, request: Any, state: str) -> None:
    """
    Note that the run of *request* ended in *state*, if it was a scheduled one.
    """
    if SCHEDULED_FOR not in (getattr(request, "headers", None) or {}):
        return
    try:
        Outcomes(store.client, store.keys).note(request.id, state)
    except StoreError as error:
        logger.warning("How %s ended could not be noted, the result store will tell: %s", request.id, error)


def install(app: Any) -> None:
    """
    Note the end of every scheduled run of this process.
    """
    name = f"celery_platform.beat.{id(app)}"

    def after_run(task: Any = None, state: str | None = None, **_: Any) -> None:
        if task is not None and task.app is app and state in _ENDS and not task.request.is_eager:
            ended(app.platform.state, task.request, _ENDS[state])

    def revoked(request: Any = None, **_: Any) -> None:
        headers = getattr(request, "request_dict", None) or {}
        if request is not None and SCHEDULED_FOR in headers:
            Outcomes(app.platform.state.client, app.platform.state.keys).note(request.id, "cancelled")

    signals.task_postrun.connect(after_run, weak=False, dispatch_uid=f"{name}.postrun")
    signals.task_revoked.connect(revoked, weak=False, dispatch_uid=f"{name}.revoked")


class Outcomes:
    """Ends of runs on their way from workers to the leading scheduler."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self._client = client
        self._key = keys.beat_outcomes

    def note(self, call_id: str, state: str) -> None:
        """
        Keep *state* until a scheduler has taken it, for a week at most.

        Raises `StoreError` when the store does not answer.
        """
        with _answering():
            pipe = self._client.pipeline(transaction=True)
            pipe.hset(self._key, call_id, state)
            pipe.expire(self._key, _LIFETIME)
            pipe.execute()

    def read(self) -> dict[str, str]:
        """
        Return up to a thousand ends by call id.
        """
        with _answering():
            if not self._client.exists(self._key):
                return {}
            _, found = self._client.hscan(self._key, count=_BATCH)
        return {_text(call_id): _text(state) for call_id, state in found.items()}

    def forget(self, call_ids: Iterable[str]) -> None:
        """
        Drop ends that are in the database now.
        """
        names = list(call_ids)
        if names:
            with _answering():
                self._client.hdel(self._key, *names)


class _answering:  # noqa: N801 - read as a verb
    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from redis.exceptions import RedisError

        if isinstance(error, RedisError):
            raise StoreError(f"The state store did not answer: {error}. Check PLATFORM_STATE_URL.") from error


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
