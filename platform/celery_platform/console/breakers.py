"""
The circuit breakers, and opening or closing one by hand.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from celery_platform.console.page import Deed, Effect, Fields, Page
from celery_platform.guards.listings import breakers_of

if TYPE_CHECKING:
    from celery_platform.celery_app import Platform

__all__ = ["BreakersPage"]


class BreakersPage(Page):
    """`/platform/breakers`."""

    template, title, tab = "breakers.html", "Breakers", "breakers"

    def look(self, *path: str) -> dict[str, Any]:
        """
        Return the breakers that calls have asked lately, those that hold something up first.
        """
        del path
        rows = breakers_of(self.desk.platform.guards)
        return {"breakers": sorted(rows, key=lambda row: (row["state"] == "closed", row["name"], row["key"] or ""))}


def _force(state: str, platform: Platform, target: str, fields: Fields) -> Effect:
    seconds, reason = fields.seconds("for"), fields.text("reason")
    before = platform.guards.force(target, state, seconds=seconds, reason=reason)
    return Effect(f"{target}: {before} → {state}", {"state": before}, {"state": state, "seconds": seconds})


BreakersPage.deeds = {
    "open": Deed(partial(_force, "forced_open"), "breaker"),
    "close": Deed(partial(_force, "closed"), "breaker"),
    "disable": Deed(partial(_force, "disabled"), "breaker"),
}
