"""
Be a child: from the fork to the exit.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from billiard.common import clear_terminate_handler_fired, reset_signals  # type: ignore[attr-defined]
from billiard.exceptions import SoftTimeLimitExceeded
from celery.concurrency.prefork import process_destructor, process_initializer
from celery.worker import state as worker_state

from celery_platform.worker.supervised.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_platform.worker.supervised.slate import Slate
    from celery_platform.worker.supervised.wire import Wire

__all__ = ["Berth", "live"]

logger = logging.getLogger("celery_platform.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Berth:
    """
    What a child is given before it is born.

    *owner* is the name it holds its messages under; *strangers* are the wires of others, which it must not keep open;
    *most_runs* calls and *most_memory* KiB are its share of work.
    """

    parent: int
    hostname: str
    owner: str
    slate: Slate
    wire: Wire
    strangers: Sequence[Wire] = ()
    soft_limit: float | None = None
    hard_limit: float | None = None
    most_runs: int | None = None
    most_memory: int | None = None
    disable_rate_limits: bool = False


def live(app: Any, berth: Berth) -> None:
    """
    Work until the parent is gone, asks to leave, or this process has done its share; then exit.
    """
    code = 1
    pid = os.getpid()
    try:
        _settle_in(app, berth)
        Loop(app, berth).run()
        code = 0
    except EOFError:
        logger.warning("The worker's main process is gone: this process ends.")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        logger.critical("A process of the worker ends with an error.", exc_info=True)
    finally:
        if os.getpid() == pid:
            process_destructor(pid, code)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # Threads that a task has left behind are not waited for.
        os._exit(code & 0xFF)


def _settle_in(app: Any, berth: Berth) -> None:
    revoked, stamps = list(worker_state.revoked), dict(worker_state.revoked_stamps)
    process_initializer(app, berth.hostname)
    if os.getppid() != berth.parent:
        raise EOFError
    worker_state.revoked.update(revoked)
    worker_state.revoked_stamps.update(stamps)
    for wire in berth.strangers:
        wire.close()
    clear_terminate_handler_fired()
    reset_signals()

    def stop_softly(*_: Any) -> None:
        if berth.slate.to_be_stopped:
            raise SoftTimeLimitExceeded

    signal.signal(signal.SIGUSR1, stop_softly)
