"""
Bury what the Redis transport could not deliver: undecodable messages, poison pills, rejected ones.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from celery_platform.dead_letters import DeadLetter
from celery_platform.errors import StoreError
from celery_platform.stores.redis import connect
from celery_platform.transport.casualties import drain
from celery_platform.transport.keys import TransportKeys

if TYPE_CHECKING:
    from celery_platform.celery_app import Platform
    from celery_platform.transport.casualties import Casualty

__all__ = ["CasualtyDrain", "letter_of"]

logger = logging.getLogger("celery_platform.casualties")

_INTERVAL = 2.0
_TOLD = {
    "undecodable": "The message could not be decoded",
    "poison": "Every worker that held the call died",
    "rejected": "The worker refused the message",
}


def letter_of(casualty: Casualty, known_tasks: Any = ()) -> DeadLetter:
    """
    Return the dead letter of *casualty*; its raw bytes are kept whole, whatever can be read of it is shown.

    A call refused because its task is not among *known_tasks* has the reason ``unknown_task``.
    """
    headers = _headers(casualty.raw)
    task = str(headers.get("task") or "")
    unknown = casualty.reason == "rejected" and bool(task) and bool(known_tasks) and task not in known_tasks
    return DeadLetter(
        id=casualty.id,
        call_id=str(headers.get("id") or casualty.id),
        task=task,
        queue=casualty.queue,
        reason="unknown_task" if unknown else casualty.reason,
        error=casualty.error or _TOLD[casualty.reason],
        buried_at=casualty.at,
        attempts=int(headers.get("platform_failures") or 0),
        deliveries=casualty.deaths,
        group=casualty.reason,
        argsrepr=str(headers.get("argsrepr") or ""),
        kwargsrepr=str(headers.get("kwargsrepr") or ""),
        message={"raw": base64.b64encode(casualty.raw).decode()},
    )


def _headers(raw: bytes) -> dict[str, Any]:
    try:
        headers = json.loads(raw)["headers"]
    except (ValueError, TypeError, KeyError):
        return {}
    return headers if isinstance(headers, dict) else {}


class CasualtyDrain(bootsteps.StartStopStep):
    """
    Move casualties into the dead letters every two seconds, from a thread of the worker's main process.

    The letter is written before the casualty is removed: a crash in between gives one letter, twice recognised.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        """
        Start the thread.
        """
        self._stopped.clear()
        self._thread = threading.Thread(
            target=self._run, args=(parent.app.platform, parent.app.tasks), name="casualty-drain", daemon=True
        )
        self._thread.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - a boot step is told its worker
        """
        Drain once more and end the thread.
        """
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    terminate = stop

    def _run(self, platform: Platform, known_tasks: Any) -> None:
        from redis.exceptions import RedisError

        platform.prepare()
        client = connect(platform.broker_url)
        keys = TransportKeys(f"{platform.settings.namespace}:")

        def bury(casualty: Casualty) -> None:
            letter = letter_of(casualty, known_tasks)
            platform.dead_letters.bury(letter)
            logger.error("%s is a dead letter now (%s): %s", letter.task or "A message", letter.reason, letter.error)

        stopping = False
        while not stopping:
            stopping = self._stopped.wait(_INTERVAL)
            try:
                while drain(client, keys, bury):
                    pass
            except (RedisError, StoreError) as error:
                logger.warning("Casualties could not be buried, trying again: %s", error)
        client.close()
