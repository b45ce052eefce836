"""
Keep the children of a worker alive, each in its place, and settle what the dead leave behind.

One thread does it, apart from the worker's event loop: a broker that does not answer the parent must not stop time
limits, leases or the replacement of the dead.
"""

from __future__ import annotations

import logging
import os
import secrets
import selectors
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from billiard.common import TERM_SIGNAL
from celery.worker import state as worker_state
from redis.exceptions import RedisError

from celery_platform.worker.supervised.census import Census
from celery_platform.worker.supervised.children import Child, bear
from celery_platform.worker.supervised.estate import Estate
from celery_platform.worker.supervised.overseer import Overseer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery_platform.transport.steward import Steward
    from celery_platform.worker.supervised.child import Berth

__all__ = ["Supervisor"]

logger = logging.getLogger("celery_platform.worker")

_CLOSE = 0.025  # seconds between two looks at children that have more at hand than they run
_CALM = 0.25
_IDLE = 1.0
_SOON_DEAD = 1.0  # seconds; a child that lives no longer is replaced with a delay
_PATIENCE = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
_LAST_WORDS = 5.0
_TERM = 2.0  # seconds between the signal to end and the one that does it


class Supervisor:
    """
    The children of one worker.

    *berth* is what every child is given. Public methods may be called from any thread; `lock` keeps deaths from being
    settled while it is held.
    """

    def __init__(self, app: Any, steward: Steward, berth: partial[Berth], limit: int) -> None:
        self.app = app
        self.steward = steward
        self.limit = limit
        self.children: list[Child] = []
        self.lock = threading.RLock()
        self.census = Census(self)
        self.estate = Estate(self)
        self.overseer = Overseer(self)
        self._berth = berth
        self._orders: dict[str, dict[str, Any]] = {}
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._family = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._born = 0
        self._failures = 0
        self._bear_from = 0.0
        self._renew_from = 0.0
        self._close_until = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="supervisor", daemon=True)

    def start(self) -> None:
        """
        Fork the children, and begin to watch them.
        """
        self._fill()
        self._thread.start()

    @property
    def pids(self) -> list[int]:
        """
        The processes of the children.
        """
        return [child.pid for child in self.children]

    @property
    def stopping(self) -> bool:
        """Whether nobody is replaced any more."""
        return self._stopping.is_set()

    def of_pid(self, pid: int) -> Child | None:
        """
        Return the child with this process.
        """
        return next((child for child in self.children if child.pid == pid), None)

    def tell(self, word: str, **rest: Any) -> None:
        """
        Tell every child, also those not born yet.
        """
        with self.lock:
            self._orders[word] = rest
            for child in self.children:
                child.wire.send(word, **rest)

    def revoke(self, ids: Iterable[str], stamps: dict[str, Any]) -> None:
        """
        Have every child skip these calls; those not born yet inherit them.
        """
        with self.lock:
            for child in self.children:
                for some in _portions(list(ids), 1000):
                    child.wire.send("revoke", ids=some, stamps=stamps)

    def resize(self, limit: int) -> None:
        """
        Have *limit* children; those that are too many leave when their call has ended.
        """
        with self.lock:
            self.limit = max(0, limit)
            self._settle_in()
        self.wake()

    def stop(self) -> None:
        """
        Have every child leave when its call has ended, give back the rest, and wait for them.
        """
        self._stopping.set()
        with self.lock:
            for child in list(self.children):
                self.dismiss(child)
        self.wake()
        while self.children and self._thread.is_alive():
            time.sleep(0.01)
        # A broker that is away now gives everything to others when the leases end.
        self._thread.join(timeout=_LAST_WORDS)
        self.steward.close()

    def terminate(self) -> None:
        """
        Make every child end now; what it had not finished goes back, unblamed.
        """
        self._stopping.set()
        self._expect_all()
        for child in list(self.children):
            child.send(TERM_SIGNAL)
        self.wake()
        deadline = time.monotonic() + _TERM
        while self.children and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.kill()

    def kill(self) -> None:
        """
        Kill every child; what it had not finished goes back, unblamed.
        """
        self._stopping.set()
        self._expect_all()
        for child in list(self.children):
            child.send(signal.SIGKILL)
        self.wake()

    def dismiss(self, child: Child) -> None:
        """
        Have *child* leave when its call has ended; what it has not started goes back now.
        """
        child.leaving = child.expected = True
        child.wire.send("leave")
        with suppress(RedisError, OSError):
            self.overseer.give_back(child)

    def wake(self) -> None:
        """
        Have the supervisor look around at once.
        """
        os.write(self._ring, b".")

    def _expect_all(self) -> None:
        for child in list(self.children):
            child.leaving = child.expected = True

    def _settle_in(self) -> None:
        staying = [child for child in self.children if not child.leaving]
        for child in sorted(staying, key=lambda one: one.busy)[: max(0, len(staying) - self.limit)]:
            self.dismiss(child)
        self._orders.get("limits", {}).update(siblings=max(1, self.limit))

    def _live(self) -> None:
        try:
            while not (self.stopping and not self.children and not self.estate.owed):
                self._hear(self._selector.select(self._pause()))
                with self.lock:
                    self._look_around()
        except BaseException:
            # Unsupervised children would hold their calls for ever.
            logger.critical("The supervision of the worker's processes failed: the worker ends.", exc_info=True)
            for child in self.children:
                child.send(signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGTERM)
            raise

    def _pause(self) -> float:
        now = time.monotonic()
        if now < self._close_until:
            return _CLOSE
        waits = [_CALM if any(child.busy for child in self.children) or self.estate.owed else _IDLE]
        if len(self.children) < self.limit and not self.stopping:
            waits.append(max(0.0, self._bear_from - now))
        return min(waits)

    def _look_around(self) -> None:
        now = time.monotonic()
        for child in self.children:
            child.slate.watch()
        for child in [one for one in self.children if not one.alive()]:
            self._bury(child)
        if not self.stopping:
            self._fill()
        try:
            if self.overseer.look(self.children):
                self._close_until = now + _CALM
            self.estate.settle()
            if now >= self._renew_from:
                self.steward.renew([child.owner for child in self.children])
                self._renew_from = now + self.steward.lease / 3
        except (RedisError, OSError) as error:
            logger.warning("The broker does not answer the worker's main process (%s); trying again.", error)
            self._close_until = 0.0

    def _hear(self, events: Any) -> None:
        for key, _ in events:
            if key.data is None:
                os.read(self._bell, 4096)
            elif key.fileobj is key.data.wire:
                self._listen(key.data)

    def _listen(self, child: Child) -> None:
        try:
            messages = child.wire.receive()
        except EOFError:
            self._selector.unregister(child.wire)
            return
        for message in messages:
            match message["word"]:
                case "ready":
                    child.ready = True
                case "busy":
                    self._close_until = time.monotonic() + _CALM
                case "ran":
                    counts = Counter(message["counts"])
                    worker_state.total_count.update(counts)
                    worker_state.all_total_count[0] += counts.total()

    def _fill(self) -> None:
        staying = [child for child in self.children if not child.leaving]
        if len(staying) >= self.limit or time.monotonic() < self._bear_from:
            return
        taken = {child.place for child in self.children}
        free = (place for place in range(self.limit + len(self.children)) if place not in taken)
        for _ in range(self.limit - len(staying)):
            self._bear(next(free))

    def _bear(self, place: int) -> None:
        self._born += 1
        strangers = [child.wire for child in self.children]
        child = bear(self.app, place, partial(self._berth, owner=f"{self._family}:{self._born}", strangers=strangers))
        self.children.append(child)
        self._selector.register(child.wire, selectors.EVENT_READ, child)
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        for word, rest in self._orders.items():
            child.wire.send(word, **rest)

    def _bury(self, child: Child) -> None:
        for source in (child.wire, child.pidfd):
            if source is not None and source in self._selector.get_map():
                if source is child.wire:
                    self._listen(child)
                self._unregister(source)
        self.children.remove(child)
        self.estate.enter(child)
        if not (child.expected or child.process.exitcode == 0):
            logger.error("Process %d of the worker ended with %s.", child.pid, child.process.exitcode)
            soon = not child.ready or time.monotonic() - child.born < _SOON_DEAD
            self._failures = self._failures + 1 if soon else 0
            self._bear_from = time.monotonic() + _PATIENCE[min(self._failures, len(_PATIENCE) - 1)]
        child.close()

    def _unregister(self, source: Any) -> None:
        if source in self._selector.get_map():
            self._selector.unregister(source)


def _portions(items: list[str], size: int) -> Iterable[list[str]]:
    for first in range(0, max(len(items), 1), size):
        yield items[first : first + size]
