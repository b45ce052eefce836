"""
Write down what is finished in a child, and settle it with few round trips: results first, then acknowledgements.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from celery_platform.transport.scripts import KEEP_RESULTS

if TYPE_CHECKING:
    from celery_platform.transport.consumer import Consumer
    from celery_platform.transport.envelope import Delivery
    from celery_platform.worker.supervised.slate import Slate

__all__ = ["Ledger"]

logger = logging.getLogger("celery_platform.worker")

_OWED = 0.02  # seconds that something finished may wait while another call runs
_AT_ONCE = 500  # results; a script blocks the server while it runs


class Ledger:
    """
    What one child has finished and not settled.

    *backend* is the app's result backend. Calls are entered by the thread that runs them; any may `settle`.
    """

    def __init__(self, source: Consumer, slate: Slate, backend: Any) -> None:
        self._source = source
        self._slate = slate
        self._backend = backend
        self._finished: list[Delivery] = []
        self._results: list[tuple[str, bytes]] = []
        self._unsettled: list[Delivery] = []
        self._since: float | None = None
        self._lock = threading.RLock()
        self._over = threading.Event()
        if hasattr(backend, "outbox"):
            backend.outbox = self._results
            backend.before_read = self.settle

    def start(self) -> None:
        """
        Settle by the clock as well, so that a call that turns out long holds up nothing of those before it.
        """
        threading.Thread(target=self._settle_in_time, name="settle-in-time", daemon=True).start()

    def stop(self) -> None:
        """
        Settle by the clock no more.
        """
        self._over.set()

    def finish(self, delivery: Delivery) -> None:
        """
        Enter a call whose result, where it has one, waits in the outbox or is stored.
        """
        self._finished.append(delivery)
        if self._since is None:
            self._since = time.monotonic()

    def leave_open(self, delivery: Delivery) -> None:
        """
        Enter a call that has been dealt with and still waits for its verdict.
        """
        self._unsettled.append(delivery)

    def has(self, delivery: Delivery) -> bool:
        """
        Tell whether *delivery* was entered last.
        """
        return bool(self._finished) and self._finished[-1] is delivery

    def settle(self) -> None:
        """
        Store the results, and have the next exchange with the broker acknowledge their calls.

        Raises `RedisError` or `OSError` when the result store is away; nothing is acknowledged then.
        """
        with self._lock:
            finished = self._finished[:]  # before the results: each of these has its own among them
            results = self._results[:]
            for first in range(0, len(results), _AT_ONCE):
                self._keep(results[first : first + _AT_ONCE])
            del self._results[: len(results)]
            del self._finished[: len(finished)]
            self._since = time.monotonic() if self._finished else None
            if finished:
                self._mark_done(finished[-1].number)
                self._source.holdings.acknowledge_all([delivery.field for delivery in finished])

    def _mark_done(self, number: int) -> None:
        # All up to it may be acknowledged should this process die: so none of them may wait for another verdict.
        holdings = self._source.holdings
        self._unsettled = [delivery for delivery in self._unsettled if delivery.field in holdings.held]
        if not holdings.deciding:
            self._slate.done(min([number, *(delivery.number - 1 for delivery in self._unsettled)]))

    def _keep(self, results: list[tuple[str, bytes]]) -> None:
        keys, values = zip(*results, strict=True)
        KEEP_RESULTS.run(self._backend.client, keys, (int(self._backend.expires or 0), *values))

    def _settle_in_time(self) -> None:
        while not self._over.wait(_OWED):
            now = time.monotonic()
            owed = [since for since in (self._since, self._source.holdings.owed_since) if since is not None]
            if not owed or now - min(owed) < _OWED:
                continue
            try:
                self.settle()
                self._source.flush()
            except (RedisError, OSError) as error:
                logger.debug("What is finished is settled with the next fetch: %s", error)
