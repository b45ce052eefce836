"""
The overview: what waits in each queue and who works on it.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from celery_platform.clock import moment
from celery_platform.console.page import Deed, Effect, Fields, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_platform.celery_app import Platform

__all__ = ["QueuesPage"]

# Workers are asked what they consume at most so often, in seconds, and only while somebody looks.
_ASKED_EVERY = 10.0
# The rate is taken over so many looks, three seconds apart while a page is open.
_SAMPLES = 10


class QueuesPage(Page):
    """`/platform/queues`."""

    template, title, tab = "queues.html", "Queues", "queues"
    _asked_at = float("-inf")
    _samples: ClassVar[deque[tuple[float, int]]] = deque(maxlen=_SAMPLES)

    def observed(self, *path: str) -> dict[str, Any]:
        """
        Return the workers as Flower's events tell of them.
        """
        del path
        flower: Any = self.application
        if time.monotonic() - QueuesPage._asked_at > _ASKED_EVERY:
            QueuesPage._asked_at = time.monotonic()
            flower.update_workers()
        state = flower.events.state
        consumed = {name: _consumed(info) for name, info in flower.workers.items()}
        workers = [_worker(worker, consumed.get(name, [])) for name, worker in sorted(state.workers.items())]
        self._samples.append((time.monotonic(), sum(worker["processed"] for worker in workers)))
        return {"workers": workers, "rate": _rate(self._samples)}

    def look(self, *path: str) -> dict[str, Any]:
        """
        Return every declared queue, every worker, and how many dead letters there are.
        """
        del path
        platform, workers = self.desk.platform, self.seen["workers"]
        pauses = platform.guards.pauses()
        backlog = self.desk.backlog()
        depths = {queue.name: queue for queue in backlog.queues}
        queues = [
            {
                "name": name,
                "depth": depths[name].depth,
                "oldest": depths[name].oldest,
                "workers": sum(name in worker["queues"] for worker in workers if worker["alive"]),
                "paused": f"queue:{name}" in pauses,
                "reason": pauses.get(f"queue:{name}", {}).get("reason", ""),
                "until": moment(pauses.get(f"queue:{name}", {}).get("until")),
            }
            for name in platform.router.queues
        ]
        return {
            "queues": queues,
            "workers": workers,
            "rate": self.seen["rate"],
            "dead": platform.dead_letters.count(),
            "waiting": sum(queue.depth for queue in backlog.queues),
            "delayed": backlog.delayed,
            "leased": backlog.leased,
        }


def _rate(samples: Sequence[tuple[float, int]]) -> float | None:
    """
    Return how many calls the fleet took a second, or nothing before two looks.
    """
    (first, before), (last, now) = samples[0], samples[-1]
    # A worker that starts anew counts from zero.
    return round(max(now - before, 0) / (last - first), 1) if last - first >= 1 else None


def _worker(worker: Any, queues: list[str]) -> dict[str, Any]:
    return {
        "name": worker.hostname,
        "alive": bool(worker.alive),
        "active": worker.active or 0,
        "processed": worker.processed or 0,
        "load": list(worker.loadavg or ())[:1],
        "seen": max(worker.heartbeats) if worker.heartbeats else None,
        "queues": queues,
    }


def _consumed(info: dict[str, Any]) -> list[str]:
    return [queue["name"] for queue in info.get("active_queues") or ()]


def _pause(platform: Platform, target: str, fields: Fields) -> Effect:
    platform.router.known(target)
    subject = f"queue:{target}"
    before = platform.guards.pauses().get(subject)
    seconds, reason = fields.seconds("for"), fields.text("reason")
    platform.guards.pause(subject, reason=reason, until=0.0 if seconds is None else time.time() + seconds)
    return Effect(f"{target} is paused; workers stop fetching from it within two seconds.", before, {"reason": reason})


def _resume(platform: Platform, target: str, fields: Fields) -> Effect:
    del fields
    before = platform.guards.pauses().get(f"queue:{target}")
    was = platform.guards.resume(f"queue:{target}")
    return Effect(f"{target} runs again." if was else f"{target} was not paused.", before)


QueuesPage.deeds = {"pause": Deed(_pause, "queue"), "resume": Deed(_resume, "queue")}
