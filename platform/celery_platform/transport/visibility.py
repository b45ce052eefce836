"""
Keep messages of SQS hidden from other workers for as long as this process lives.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Visibility"]

logger = logging.getLogger(__name__)

_BATCH = 10  # entries a request takes


class Visibility:
    """
    The messages one channel holds; a thread of its own hides them again every third of *lease* seconds.

    *connect* makes the client of that thread. After `close` the thread ends with the last message.
    """

    def __init__(self, connect: Callable[[], Any], lease: int) -> None:
        self._connect = connect
        self._lease = lease
        self._held: dict[str, str] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None

    def hold(self, handle: str, url: str) -> None:
        """
        Keep the message *handle* of the queue *url* hidden until `release`.
        """
        with self._lock:
            self._held[handle] = url
            if self._thread is None:
                # Made here: making clients of boto3 is not safe on two threads.
                client = self._connect()
                self._thread = threading.Thread(
                    target=self._run, args=(client,), name="celery-platform-visibility", daemon=True
                )
                self._thread.start()

    def release(self, handle: str) -> None:
        """
        Let go of a message; one that is not held is no error.
        """
        with self._lock:
            self._held.pop(handle, None)

    def holds(self, url: str) -> bool:
        """
        Tell whether any message of the queue *url* is held.
        """
        with self._lock:
            return url in self._held.values()

    def close(self) -> None:
        """
        Let the thread end as soon as nothing is held.
        """
        self._closed = True

    def _run(self, client: Any) -> None:
        while self._held or not self._closed:
            time.sleep(self._lease / 3)
            try:
                for url, handles in self._batches():
                    self._renew(client, url, handles)
            except (ClientError, BotoCoreError, OSError) as error:
                logger.warning("The visibility of held messages could not be renewed, trying again: %s", error)

    def _batches(self) -> Iterator[tuple[str, list[str]]]:
        with self._lock:
            held = list(self._held.items())
        for url in {url for _, url in held}:
            handles = [handle for handle, where in held if where == url]
            for first in range(0, len(handles), _BATCH):
                yield url, handles[first : first + _BATCH]

    def _renew(self, client: Any, url: str, handles: list[str]) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": self._lease}
            for number, handle in enumerate(handles)
        ]
        answer = client.change_message_visibility_batch(QueueUrl=url, Entries=entries)
        for failure in answer.get("Failed", ()):
            handle = handles[int(failure["Id"])]
            # Settled in the meantime, it is not held any more.
            if handle in self._held and failure.get("SenderFault", True):
                logger.warning(
                    "A message of %s is not ours any more (%s): it will be delivered again, or was deleted.",
                    url,
                    failure.get("Message") or failure.get("Code"),
                )
                self.release(handle)
