"""
Hold children to what a busy one cannot see to itself: time limits, and not keeping calls from others.
"""

from __future__ import annotations

import logging
import signal
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery_platform.worker.supervised.children import Child
    from celery_platform.worker.supervised.slate import Glance
    from celery_platform.worker.supervised.supervisor import Supervisor

__all__ = ["Overseer"]

logger = logging.getLogger("celery_platform.worker")

_LONG = 0.05  # seconds after which the rest of a batch does not wait for the call that runs


class Overseer:
    """Looks at the slates of all children, some times a second."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def look(self, children: Iterable[Child]) -> bool:
        """
        Do what is due; return whether to look again very soon.

        Raises `RedisError` or `OSError` when the broker is away.
        """
        soon = False
        for child in list(children):
            seen = child.slate.glance()
            if not seen.running:
                continue
            age = time.monotonic() - seen.started
            if seen.hard_limit and age > seen.hard_limit:
                self._end(child, seen)
                continue
            if seen.soft_limit and age > seen.soft_limit and child.softly_stopped != seen.number:
                self._stop_softly(child, seen)
            if seen.last > max(seen.number, child.taken_back):
                if age > _LONG:
                    self.give_back(child)
                soon = True
            soon = soon or _near(seen, age)
        return soon

    def give_back(self, child: Child) -> None:
        """
        Put back what *child* has at hand and not started.
        """
        seen = child.slate.glance()
        if child.taken_back >= seen.last or seen.last <= seen.number:
            return
        first = child.slate.take_back(seen)
        steward = self._supervisor.steward
        fields = [name for number, (name, _) in steward.held(child.owner).items() if first <= number <= seen.last]
        steward.give_back(child.owner, fields)
        child.taken_back = seen.last

    def soft_stop(self, child: Child, number: int) -> None:
        """
        Raise `SoftTimeLimitExceeded` in the body of the call *number*, if it still runs.
        """
        child.softly_stopped = number
        child.slate.stop_softly(number)
        child.send(signal.SIGUSR1)

    def _stop_softly(self, child: Child, seen: Glance) -> None:
        self.soft_stop(child, seen.number)
        request = self._known(child)
        if request is not None:
            request.on_timeout(soft=True, timeout=seen.soft_limit)

    def _end(self, child: Child, seen: Glance) -> None:
        request = self._known(child)
        child.expected = True
        child.kill()
        again = child.slate.glance()
        if request is not None and again.running and again.number == seen.number:
            request.on_timeout(soft=False, timeout=seen.hard_limit)

    def _known(self, child: Child) -> Any:
        try:
            return self._supervisor.census.running(child)
        except (RedisError, OSError) as error:
            logger.warning("The call over its time limit cannot be read, it goes back: %s", error)
            return None


def _near(seen: Glance, age: float) -> bool:
    limits = [limit for limit in (seen.soft_limit, seen.hard_limit) if limit]
    return any(age < limit < age + 1 for limit in limits)
