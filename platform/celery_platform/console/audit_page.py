"""
What operators did by hand, the newest first.
"""

from __future__ import annotations

from typing import Any

from celery_platform.console.page import Page

__all__ = ["AuditPage"]

_SHOWN = 200


class AuditPage(Page):
    """`/platform/audit`."""

    template, title, tab = "audit.html", "Audit", "audit"

    def look(self, *path: str) -> dict[str, Any]:
        """
        Return the newest actions.
        """
        del path
        return {"actions": [action.to_json() for action in self.desk.platform.audit.newest(_SHOWN)]}
