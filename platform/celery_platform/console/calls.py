"""
One call: what it is doing or waiting for, in one sentence, and all that has happened to it.
"""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import tornado.web

from celery_platform.console.page import Deed, Effect, Fields, Page

if TYPE_CHECKING:
    from celery_platform.celery_app import Platform

__all__ = ["CallPage", "CallsPage"]

_RECENT = 50
_MOMENTS = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected")


class CallsPage(Page):
    """`/platform/calls`: the way to one of them."""

    template, title, tab = "calls.html", "Calls", "calls"

    def observed(self, *path: str) -> dict[str, Any]:
        """
        Return the calls that Flower heard of last.
        """
        del path
        state: Any = self.application.events.state  # type: ignore[attr-defined]
        recent = islice(state.tasks_by_time(limit=_RECENT), _RECENT)
        return {"calls": [_heard(task) for _, task in recent]}

    def look(self, *path: str) -> dict[str, Any]:
        """
        Return those calls.
        """
        del path
        return self.seen

    async def get(self, *path: str) -> None:
        """
        Show them, or lead to the call that was asked for.
        """
        wanted = self.get_query_argument("id", "")
        if wanted and not self.as_json:
            self.redirect(self.reverse_url("platform-call", wanted))
            return
        await super().get(*path)


class CallPage(Page):
    """`/platform/calls/ID`."""

    template, title, tab = "call.html", "Call", "calls"

    def observed(self, *path: str) -> dict[str, Any]:
        """
        Return what Flower heard of the call.
        """
        state: Any = self.application.events.state  # type: ignore[attr-defined]
        task = state.tasks.get(path[0])
        payloads = self.visitor is not None and self.visitor.payloads
        return {"heard": None if task is None else _heard(task, payloads=payloads)}

    def look(self, *path: str) -> dict[str, Any]:
        """
        Return the sentence, the timeline and the dead letter of the call; 404 when nobody has heard of it.
        """
        from celery_platform.explanation import explain

        (call_id,) = path
        platform, heard = self.desk.platform, self.seen["heard"]
        explained = explain(platform, call_id)
        letter = platform.dead_letters.find(call_id)
        if heard is None and letter is None and not explained.known:
            raise tornado.web.HTTPError(404, "Nothing is known of this call")
        moments = list(heard["moments"]) if heard else []
        moments += [
            {
                "at": datetime.fromisoformat(entry["at"]).timestamp(),
                "what": f"waited for {entry['guard']} {entry['name']}",
            }
            for entry in explained.history
        ]
        if letter is not None:
            moments.append({"at": letter.buried_at, "what": f"became a dead letter: {letter.reason}"})
        return {
            **explained.to_json(),
            "task": heard["task"] if heard else letter.task if letter else None,
            "worker": heard["worker"] if heard else None,
            "args": heard["args"] if heard else None,
            "kwargs": heard["kwargs"] if heard else None,
            "result": heard["result"] if heard else None,
            "error": letter.error if letter else heard["error"] if heard else None,
            "dead_letter": letter.id if letter else None,
            "timeline": sorted(moments, key=lambda moment: moment["at"]),
        }


def _deferral(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "at": datetime.fromisoformat(entry["at"]).timestamp(),
        "what": f"waited for {entry['guard']} {entry['name']}",
    }


def _heard(task: Any, *, payloads: bool = False) -> dict[str, Any]:
    moments = [{"at": at, "what": name} for name in _MOMENTS if (at := getattr(task, name, None))]
    return {
        "id": task.uuid,
        "task": task.name,
        "state": task.state,
        "worker": task.worker.hostname if task.worker else None,
        "received": task.received,
        "moments": moments,
        "error": task.exception,
        "args": task.args if payloads else None,
        "kwargs": task.kwargs if payloads else None,
        "result": task.result if payloads else None,
    }


def _cancel(platform: Platform, target: str, fields: Fields) -> Effect:
    from celery_platform.cancellation import cancel

    answer = cancel(platform, target, kill_after=fields.seconds("kill_after"))
    return Effect(f"{target}: {answer.replace('_', ' ')}", None, {"answer": answer})


CallPage.deeds = {"cancel": Deed(_cancel, "id")}
