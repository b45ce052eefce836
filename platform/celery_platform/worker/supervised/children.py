"""
Know one child from the outside: its process, its slate, the wire to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from billiard import get_context

from celery_platform.worker.supervised.child import Berth, live
from celery_platform.worker.supervised.slate import Slate
from celery_platform.worker.supervised.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Child", "bear"]


@dataclass(slots=True, eq=False)
class Child:
    """
    A child as its parent sees it.

    *expected* says that its end is no accident, *leaving* that it was asked to go. *pidfd* becomes readable when it is
    dead, also while a grandchild keeps its files open; None where the system has no such thing.
    """

    place: int
    owner: str
    slate: Slate
    wire: Wire
    process: Any
    pidfd: int | None
    born: float = field(default_factory=time.monotonic)
    ready: bool = False
    leaving: bool = False
    expected: bool = False
    softly_stopped: int = -1
    taken_back: int = -1

    @property
    def pid(self) -> int:
        """Its process."""
        return int(self.process.pid)

    @property
    def busy(self) -> bool:
        """Whether a call runs."""
        return self.slate.glance().running

    def alive(self) -> bool:
        """
        Return whether the process lives; one that is dead is reaped.
        """
        return bool(self.process.is_alive())

    def send(self, signum: int) -> None:
        """
        Send a signal; to a dead process, nothing.
        """
        with contextlib.suppress(ProcessLookupError):
            if self.alive():
                os.kill(self.pid, signum)

    def kill(self, within: float = 2.0) -> None:
        """
        Kill the process and wait until it is dead.
        """
        self.send(signal.SIGKILL)
        deadline = time.monotonic() + within
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.001)

    def close(self) -> None:
        """
        Let go of everything that belongs to a dead child.
        """
        self.wire.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
        self.process.join(0)


def bear(app: Any, place: int, berth: Callable[..., Berth]) -> Child:
    """
    Fork a child; *berth* completes what it is given.
    """
    slate = Slate()
    ours, theirs = Wire.pair()
    given = berth(slate=slate, wire=theirs)
    context: Any = get_context("fork")
    process = context.Process(target=live, args=(app, given), name=f"ForkPoolWorker-{place + 1}", daemon=True)
    process.start()
    theirs.close()
    return Child(place, given.owner, slate, ours, process, _pidfd(process.pid))


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
