"""
Let one of any number of beats lead, with a fence that grows with every change of leader.

The lease lasts six seconds and is renewed every two: a dead leader is followed within seven. A leader trusts its
lease for a little less than it lasts, by its own clock, so that one who was stopped notices before it acts.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from celery_platform.beat.scripts import ACQUIRE, RELEASE
from celery_platform.clock import SYSTEM

if TYPE_CHECKING:
    from celery_platform.clock import Clock
    from celery_platform.stores.keys import Keys

__all__ = ["TTL", "Lease", "LocalLease", "RedisLease"]

TTL = 6.0
_RENEW = TTL / 3
# What a leader leaves of its lease to the time that a command may take.
_MARGIN = 1.0


class Lease(Protocol):
    """Leadership over the schedules of one namespace."""

    def acquire(self, floor: int) -> int:
        """
        Take or keep the lease and return its fence, above *floor*; 0 when another leads.
        """

    @property
    def sure(self) -> bool:
        """
        Tell whether the lease, as last seen, still lasts.
        """

    def release(self) -> None:
        """
        Give the lease up, so that another need not wait.
        """


def _holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@dataclass(slots=True)
class RedisLease:
    """
    The lease in the state store behind *client*.

    `acquire` raises `StoreError` when the store does not answer.
    """

    client: Any
    keys: Keys
    clock: Clock = SYSTEM
    ttl: float = TTL
    holder: str = field(default_factory=_holder)
    _fence: int = 0
    _until: float = float("-inf")
    _renew_at: float = float("-inf")

    def acquire(self, floor: int) -> int:
        """
        Take or keep the lease and return its fence, above *floor*; 0 when another leads.

        A lease renewed less than two seconds ago is kept without asking the store.
        """
        asked = self.clock.monotonic()
        if asked < self._renew_at and self.sure:
            return self._fence
        self._fence = 0
        keys = (self.keys.beat_lease, self.keys.beat_fence)
        self._fence = ACQUIRE.run(self.client, keys, (self.holder, int(self.ttl * 1000), floor))
        # Counted from before the question: the store's clock for the lease began later.
        self._until = asked + self.ttl - _MARGIN if self._fence else float("-inf")
        self._renew_at = asked + _RENEW
        return self._fence

    @property
    def sure(self) -> bool:
        """
        Tell whether the lease, as last seen, still lasts by this machine's clock.
        """
        return self._fence > 0 and self.clock.monotonic() < self._until

    def release(self) -> None:
        """
        Give the lease up; an unreachable store lets it run out.
        """
        if self._fence:
            self._fence = 0
            RELEASE.run(self.client, (self.keys.beat_lease,), (self.holder,))


@dataclass(slots=True)
class _Throne:
    holder: str | None = None
    until: float = float("-inf")
    fence: int = 0


@dataclass(slots=True)
class LocalLease:
    """A lease among the schedulers of one process: the twin for tests and simulations."""

    clock: Clock
    throne: _Throne = field(default_factory=_Throne)
    ttl: float = TTL
    holder: str = field(default_factory=_holder)

    def rival(self) -> LocalLease:
        """
        Return another contender for the same lease.
        """
        return LocalLease(self.clock, self.throne, self.ttl)

    def acquire(self, floor: int) -> int:
        """
        Take or keep the lease and return its fence, above *floor*; 0 when another leads.
        """
        now = self.clock.monotonic()
        if self.throne.holder != self.holder:
            if now < self.throne.until:
                return 0
            self.throne.fence = max(self.throne.fence, floor) + 1
        elif now >= self.throne.until:
            self.throne.fence = max(self.throne.fence, floor) + 1
        self.throne.holder, self.throne.until = self.holder, now + self.ttl
        return self.throne.fence

    @property
    def sure(self) -> bool:
        """
        Tell whether the lease still lasts.
        """
        return self.throne.holder == self.holder and self.clock.monotonic() < self.throne.until

    def release(self) -> None:
        """
        Give the lease up, so that another need not wait.
        """
        if self.throne.holder == self.holder:
            self.throne.holder, self.throne.until = None, float("-inf")
