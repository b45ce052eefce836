"""
Fetch, run, settle: the working life of a child.

A verdict is written down the moment it is known, and travels with the next fetch. It never overtakes its result: by the
time a call is acknowledged, its result is stored.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery.worker import state as worker_state
from redis.exceptions import RedisError

from celery_platform.transport.holdings import Settlement
from celery_platform.transport.options import ConsumerOptions
from celery_platform.worker.supervised.ledger import Ledger
from celery_platform.worker.supervised.light_path import LightPath
from celery_platform.worker.supervised.pace import Pace
from celery_platform.worker.supervised.stock_path import ChildConsumer, Hands

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_platform.transport.consumer import Consumer
    from celery_platform.transport.envelope import Delivery
    from celery_platform.worker.supervised.child import Berth

__all__ = ["Loop"]

logger = logging.getLogger("celery_platform.worker")

_IDLE = 1.0  # seconds between two looks around while there is nothing to do
_PAUSES = (0.1, 0.3, 1.0)  # seconds between two tries while the broker is away
_TELL = 0.5  # seconds between two counts told to the parent


class Loop:
    """One child at work; `run` returns when it shall leave."""

    def __init__(self, app: Any, berth: Berth) -> None:
        self.app = app
        self.berth = berth
        self.slate, self.wire = berth.slate, berth.wire
        self.pid = os.getpid()
        self.connection = app.connection_for_read()
        self.source = self._open_source()
        self.events = app.events.Dispatcher(
            app.connection_for_write(), hostname=berth.hostname, buffer_group=["task"], buffer_limit=1_000
        )
        self.events.pid = berth.parent
        hands = Hands(berth.slate, (berth.soft_limit, berth.hard_limit), self.before_body, app)
        self.worker = ChildConsumer(app, berth.hostname, hands, self, disable_rate_limits=berth.disable_rate_limits)
        self.worker.open(self.events)
        self.ledger = Ledger(self.source, berth.slate, app.backend)
        self.light = LightPath(self.worker, self.ledger, berth.slate, (berth.soft_limit, berth.hard_limit))
        self.pace = Pace()
        self.leaving = False
        self._waiting: deque[Delivery] = deque()
        self._current: Delivery | None = None
        self._runs = 0
        self._told: dict[str, int] = {}
        self._told_at = 0.0
        self._failures = 0

    def run(self) -> None:
        """
        Work until told to leave, or until this process has done its share.
        """
        self.ledger.start()
        self.wire.send("ready")
        while not self.leaving:
            self.obey()
            self.worker.run_due()
            try:
                self._turn()
                self._failures = 0
            except (RedisError, OSError) as error:
                self._endure(error)
        self.ledger.stop()
        self.ledger.settle()
        self.source.close()
        self.events.flush()
        self._tell()

    def obey(self) -> None:
        """
        Do what the parent has asked for.
        """
        for message in self.wire.receive():
            order: Callable[[dict[str, Any]], None] = getattr(self, f"order_{message['word']}")
            order(message)

    # What a parent may ask for.

    def order_serve(self, message: dict[str, Any]) -> None:
        """
        Fetch from these queues from now on.
        """
        self.source.rotation.update(message["queues"])

    def order_leave(self, _: dict[str, Any]) -> None:
        """
        Leave, once the call that runs has ended.
        """
        self.leaving = True

    def order_revoke(self, message: dict[str, Any]) -> None:
        """
        Skip these calls when they come.
        """
        worker_state.revoked.update(message["ids"])
        worker_state.revoked_stamps.update(message["stamps"])

    def order_limits(self, message: dict[str, Any]) -> None:
        """
        Hold tasks to these rates and times.
        """
        self.worker.siblings = message["siblings"]
        for name, (rate, soft, hard) in message["tasks"].items():
            if name in self.app.tasks:
                task = self.app.tasks[name]
                task.rate_limit, task.soft_time_limit, task.time_limit = rate, soft, hard
        self.worker.reset_rate_limits()
        self._refresh()

    def order_events(self, message: dict[str, Any]) -> None:
        """
        Send the events of these groups, or nothing at all.
        """
        groups = message["groups"]
        self.events.enabled = groups is not None
        self.events.groups = set(groups or ())
        self._refresh()

    def _refresh(self) -> None:
        # Request classes and plans take limits and events as they find them when they are made.
        self.worker.update_strategies()
        self.light.refresh()

    # Verdicts, as the holder of deliveries.

    def ack(self, delivery: Delivery) -> None:
        """
        Acknowledge with the next fetch.
        """
        self.ledger.finish(delivery)

    def reject(self, delivery: Delivery) -> None:
        """
        Never deliver it again.
        """
        if self.source.options.keep_rejected:
            self.source.reject(delivery)
        else:
            self.ledger.finish(delivery)

    def bury(self, delivery: Delivery, error: str) -> None:
        """
        Never deliver it again, since it cannot be read.
        """
        self.source.reject(delivery, "undecodable", error)

    def requeue(self, delivery: Delivery) -> None:
        """
        Deliver it again, as one that ended without an outcome.
        """
        self.source.requeue(delivery)

    def park(self, delivery: Delivery, delay: float, message: bytes) -> None:
        """
        Keep it on the server for *delay* seconds.
        """
        self.source.holdings.settle([Settlement("park", delivery.field, int(delay * 1000) + 1, message)])

    def before_body(self) -> None:
        """
        Send an acknowledgement that comes before its call: such a call must not run twice.
        """
        if self._current is not None and self.ledger.has(self._current):
            self.ledger.settle()
            self.source.flush()

    # The turn.

    def _turn(self) -> None:
        wanted = self.pace.batch
        if self.berth.most_runs:
            wanted = min(wanted, self.berth.most_runs - self._runs)
        self.ledger.settle()
        batch = self.source.fetch(wanted) if self.source.rotation else []
        if batch:
            self._work(batch)
        elif not self.source.holdings.held and (self.source.waiting or not self.source.rotation):
            self._rest()

    def _work(self, batch: list[Delivery]) -> None:
        started, before = time.monotonic(), self._runs
        watched = self.slate.open_batch(batch[-1].number)
        if not watched:
            self.wire.send("busy")
        self._waiting.extend(batch)
        while self._waiting:
            task = str(self._waiting[0].message["headers"].get("task"))
            if not self.pace.is_quick(task):
                # Nothing waits for a call that may be long, nor is lost and repeated with one that may be deadly.
                self.ledger.settle()
                self._give_back()
            self._run(self._waiting.popleft(), task)
        self.pace.note_batch(self._runs - before, time.monotonic() - started)
        self.events.flush()
        self._tell(at_most_every=_TELL)
        if self._worn_out():
            self.leaving = True

    def _run(self, delivery: Delivery, task: str) -> None:
        number = delivery.number
        if not self.slate.begin(number):
            self.source.holdings.held.pop(delivery.field, None)
            return
        self._current = delivery
        began = time.monotonic()
        try:
            if not self.light.take(delivery):
                self.worker.receive(delivery)
        except Exception:
            self.slate.end()
            raise
        finally:
            # What ends this process leaves the slate as it is: the parent sees with which call it died.
            if os.getpid() != self.pid:
                os._exit(0)  # the body forked, and this is the copy
        self.slate.end()
        if not self.ledger.has(delivery) and delivery.field in self.source.holdings.held:
            self.ledger.leave_open(delivery)
        self.pace.note(task, time.monotonic() - began)
        self._runs += 1

    def _give_back(self, keep: int = 1) -> None:
        leaving = [self._waiting.pop().field for _ in range(len(self._waiting) - keep)]
        self.source.return_(leaving)
        self.source.flush()

    def _worn_out(self) -> bool:
        if self.berth.most_runs and self._runs >= self.berth.most_runs:
            return True
        return bool(self.berth.most_memory) and _resident_kib() >= (self.berth.most_memory or 0)

    def _rest(self) -> None:
        self._tell()
        pause = min(_IDLE, self.worker.timer.pause)
        if self.source.rotation:
            self.source.wait(pause, also=(self.wire,))
        else:
            select.select([self.wire], [], [], pause)

    def _endure(self, error: Exception) -> None:
        if not self._failures:
            logger.warning("The broker does not answer (%s); trying again.", error)
        self.source.line.hang_up()
        # What a broken turn has not started is not started later either.
        self.source.return_([delivery.field for delivery in self._waiting])
        self._waiting.clear()
        pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        self._failures += 1
        select.select([self.wire], [], [], pause)

    def _tell(self, at_most_every: float = 0.0) -> None:
        now = time.monotonic()
        counts = worker_state.total_count
        if now - self._told_at < at_most_every or counts == self._told:
            return
        if self.wire.send("ran", counts={name: n - self._told.get(name, 0) for name, n in counts.items()}):
            self._told_at, self._told = now, dict(counts)

    def _open_source(self) -> Consumer:
        channel: Any = self.connection.channel()
        options = ConsumerOptions(
            lease=channel.lease,
            delivery_limit=channel.delivery_limit,
            keep_rejected=channel.keep_rejected,
            keys=channel.keys,
        )
        source: Consumer = channel.new_consumer((), options=replace(options, renew=False), owner=self.berth.owner)
        channel.close()
        return source


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * (os.sysconf("SC_PAGE_SIZE") // 1024)
