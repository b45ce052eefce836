"""
Bury what the Redis transport could not deliver: undecodable messages, poison pills, rejected ones.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from celery_platform.errors import StoreError
from celery_platform.stores.redis import connect
from celery_platform.transport.casualties import drain
from celery_platform.transport.keys import TransportKeys
from celery_platform.worker.drain import DrainStep
from celery_platform.worker.letters import Remains, bury

if TYPE_CHECKING:
    from celery_platform.celery_app import PlatformCelery
    from celery_platform.transport.casualties import Casualty

__all__ = ["CasualtyDrain", "remains_of"]

logger = logging.getLogger("celery_platform.casualties")

_INTERVAL = 2.0
_TOLD = {
    "undecodable": "The message could not be decoded",
    "poison": "Every worker that held the call died",
    "rejected": "The worker refused the message",
}


def remains_of(casualty: Casualty, known_tasks: Any = ()) -> Remains:
    """
    Return what is left of *casualty*: its raw bytes whole, and whatever can be read of them.

    A call refused because its task is not among *known_tasks* has the reason ``unknown_task``.
    """
    headers = _headers(casualty.raw)
    task = str(headers.get("task") or "")
    unknown = casualty.reason == "rejected" and bool(task) and bool(known_tasks) and task not in known_tasks
    return Remains(
        reason="unknown_task" if unknown else casualty.reason,
        error=casualty.error or _TOLD[casualty.reason],
        queue=casualty.queue,
        raw=casualty.raw,
        headers=headers,
        deliveries=casualty.deaths,
        at=casualty.at,
    )


def _headers(raw: bytes) -> dict[str, Any]:
    try:
        headers = json.loads(raw)["headers"]
    except (ValueError, TypeError, KeyError):
        return {}
    return headers if isinstance(headers, dict) else {}


class CasualtyDrain(DrainStep):
    """
    Move casualties into the dead letters every two seconds, from a thread of the worker's main process.

    The letter is written before the casualty is removed: a crash in between gives one letter, twice recognised.
    """

    thread_name = "casualty-drain"

    def _run(self, app: PlatformCelery) -> None:
        from redis.exceptions import RedisError

        platform = app.platform
        platform.prepare()
        client = connect(platform.broker_url)
        keys = TransportKeys(f"{platform.settings.namespace}:")

        stopping = False
        while not stopping:
            stopping = self._stopped.wait(_INTERVAL)
            try:
                while drain(client, keys, lambda casualty: bury(app, remains_of(casualty, app.tasks))):
                    pass
            except (RedisError, StoreError) as error:
                logger.warning("Casualties could not be buried, trying again: %s", error)
        client.close()
