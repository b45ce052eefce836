"""
List our pages: each under /platform/ for people and under /api/platform/ for programs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tornado.web
from tornado.routing import URLSpec

from celery_platform.console.access import Right
from celery_platform.console.audit_page import AuditPage
from celery_platform.console.breakers import BreakersPage
from celery_platform.console.calls import CallPage, CallsPage
from celery_platform.console.dead_letters import DeadLettersPage, LetterPage
from celery_platform.console.gate import Gate
from celery_platform.console.limits import LimitsPage
from celery_platform.console.queues import QueuesPage
from celery_platform.console.schedules import SchedulesPage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_platform.console.page import Page

__all__ = ["urls"]

_PAGES: dict[str, type[Page]] = {
    "queues": QueuesPage,
    "dead-letters": DeadLettersPage,
    "dead-letters/(.+)": LetterPage,
    "breakers": BreakersPage,
    "limits": LimitsPage,
    "schedules": SchedulesPage,
    "calls": CallsPage,
    "calls/(.+)": CallPage,
    "audit": AuditPage,
}
_SINGLE: dict[type[Page], str] = {CallPage: "call", LetterPage: "letter"}


class _Static(Gate, tornado.web.StaticFileHandler):
    reading = Right.OPEN


class _Start(Gate):
    def get(self) -> None:
        """
        Lead to the overview.
        """
        self.redirect(self.reverse_url("platform-queues"))


def urls() -> Iterator[URLSpec]:
    """
    Yield our pages, their twins, and what browsers need for them.
    """
    for path, page in _PAGES.items():
        name = f"platform-{_SINGLE.get(page, path)}"
        yield URLSpec(f"/platform/{path}", page, name=name)
        yield URLSpec(f"/api/platform/{path}", page, {"as_json": True}, name=f"api-{name}")
    folder = Path(__file__).with_name("static")
    yield URLSpec("/platform/static/(.*)", _Static, {"path": str(folder)}, name="platform-static")
    yield URLSpec("/platform/?", _Start, name="platform")
