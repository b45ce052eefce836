"""
Cancel a call wherever it is, and say truly what came of it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery import states

if TYPE_CHECKING:
    from celery_platform.celery_app import Platform

__all__ = ["cancel"]

# How long workers get to say whether they run the call, in seconds.
_ASK = 1.0
# Between the signal that a body can catch and the one that it cannot, in seconds.
_SOFT = 5.0
# How many messages of a queue are looked through for a call that nobody knows.
_LOOK = 10_000
# What stands between a queue's name and its priority step in the names of a Redis broker's lists.
_STEP = "\x06\x16"


def cancel(platform: Platform, call_id: str, *, kill_after: float | None = None) -> str:
    """
    Cancel the call *call_id* and return what came of it.

    ``already_done``: it had ended, nothing was changed. ``cancelled``: it waits, is delayed or parked, and will not
    run. ``stopping``: it runs, and `current_call().cancelled` tells it so within two seconds; with *kill_after* s
    it gets a soft stop then, and five seconds later its process is killed: ``killed``. ``not_found``: no worker runs
    it and nothing is known of it (on RabbitMQ and SQS nobody can look into a queue); the mark stays for a week and
    stops it should it come.

    Raises `StoreError` when the state store cannot be reached.
    """
    result = platform.app.AsyncResult(call_id)
    if result.state in states.READY_STATES:
        return "already_done"
    record = platform.guards.cancel(call_id)
    if record is not None and record.state == "done":
        platform.guards.uncancel(call_id)
        return "already_done"
    if _runs(platform, call_id):
        return "stopping" if kill_after is None else _stop(platform, call_id, kill_after)
    if record is not None and record.state == "running" and platform.settings.broker_kind == "sqs":
        return "stopping"
    known = record is not None or result.state != states.PENDING or _waits(platform, call_id)
    return "cancelled" if known or _on_redis(platform, call_id) else "not_found"


def _runs(platform: Platform, call_id: str) -> bool:
    return _asked(platform, call_id) == "active"


def _waits(platform: Platform, call_id: str) -> bool:
    return _asked(platform, call_id) is not None


def _on_redis(platform: Platform, call_id: str) -> bool:
    """
    Look through the newest messages of a Redis broker; other brokers do not let anybody look.
    """
    if platform.settings.broker_kind != "redis":
        return False
    from celery_platform.stores.redis import connect, told

    wanted = call_id.encode()
    with told(), connect(platform.broker_url) as client:
        for name in platform.router.queues:
            for key in (name, *(f"{name}{_STEP}{step}" for step in range(1, 10))):
                if any(wanted in message for message in client.lrange(key, 0, _LOOK)):
                    return True
        messages = client.hscan_iter(f"{platform.settings.namespace}:delayed:messages", count=1000)
        return any(wanted in message for _, message in messages)


def _asked(platform: Platform, call_id: str) -> str | None:
    if platform.settings.broker_kind == "sqs":
        return None  # SQS has no remote control; asking would make a queue for the answers
    answers: dict[str, Any] = platform.app.control.inspect(timeout=_ASK).query_task(call_id) or {}
    return next((found[call_id][0] for found in answers.values() if call_id in found), None)


def _stop(platform: Platform, call_id: str, kill_after: float) -> str:
    if _stops(platform, call_id, kill_after):
        return "cancelled"
    platform.app.control.broadcast("platform_soft_stop", arguments={"call_id": call_id})
    if _stops(platform, call_id, _SOFT):
        return "cancelled"
    platform.app.control.revoke(call_id, terminate=True, signal="SIGKILL")
    return "killed" if _stops(platform, call_id, _SOFT) else "stopping"


def _stops(platform: Platform, call_id: str, within: float) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if not _runs(platform, call_id):
            return True
        time.sleep(0.1)
    return False
