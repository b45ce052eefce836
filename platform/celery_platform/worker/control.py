"""
Teach workers to stop one call gently: a signal that its body can catch, and nothing written about it yet.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from celery.worker import state as worker_state
from celery.worker.control import control_command

__all__ = ["soft_stop"]


@control_command(name="platform_soft_stop", args=[("call_id", str)], signature="CALL_ID")
def soft_stop(state: Any, call_id: str) -> dict[str, str]:
    """
    Raise the soft time limit in the process that runs CALL_ID.

    Celery's own `revoke` would forget the call at once, and could not stop it for good when it resists.
    """
    stop = getattr(state.consumer.pool, "soft_stop", None)
    for request in list(worker_state.active_requests):
        if request.id == call_id and request.worker_pid not in {None, os.getpid()}:
            if stop is None:
                os.kill(request.worker_pid, signal.SIGUSR1)
            else:
                stop(request)
            return {"ok": f"asked process {request.worker_pid} to stop"}
    return {"ok": "it does not run here, or not in a process of its own"}
