"""
Dead letters: their groups, one of them, and editing, removing or sending them again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import tornado.web

from celery_platform.console import replays
from celery_platform.console.page import Deed, Effect, Fields, Page, Refusal
from celery_platform.dead_letters import Selection

if TYPE_CHECKING:
    from celery_platform.audit import Action
    from celery_platform.celery_app import Platform

__all__ = ["DeadLettersPage", "LetterPage"]

_GROUPS = 200
_LETTERS = 100
_PAYLOADS = ("argsrepr", "kwargsrepr")


class DeadLettersPage(Page):
    """`/platform/dead-letters`."""

    template, title, tab = "dead_letters.html", "Dead letters", "dead-letters"

    def look(self, *path: str) -> dict[str, Any]:
        """
        Return the groups, the newest letters (of one group, with `?group=`), and the replays begun here.
        """
        del path
        letters, group = self.desk.platform.dead_letters, self.get_query_argument("group", "") or None
        return {
            "count": letters.count(),
            "group": group,
            "groups": [asdict(row) for row in letters.groups(limit=_GROUPS)],
            "letters": [self.shown(letter) for letter in letters.list(Selection(group=group), limit=_LETTERS)],
            "replays": replays.progress(),
        }

    def shown(self, letter: Any) -> dict[str, Any]:
        """
        Return what the visitor may see of *letter*.
        """
        listed: dict[str, Any] = letter.listing()
        if self.visitor is None or not self.visitor.payloads:
            listed |= dict.fromkeys(_PAYLOADS)
        return listed


class LetterPage(DeadLettersPage):
    """`/platform/dead-letters/ID`."""

    template, title = "dead_letter.html", "Dead letter"
    refresh = 0

    def look(self, *path: str) -> dict[str, Any]:
        """
        Return one letter with all its failures; 404 when there is none.
        """
        letter = self.desk.platform.dead_letters.find(path[0])
        if letter is None:
            raise tornado.web.HTTPError(404, "There is no such dead letter")
        return {"letter": self.shown(letter), "open": self.desk.platform.dead_letters.graves.is_open(path[0])}


def _replay(where: Selection, platform: Platform, target: str, fields: Fields, asked: Action) -> Effect:
    from celery_platform.replay import ReplayPlan

    share = fields.number("stop_if_fail") or 20
    plan = ReplayPlan(
        where=where,
        canary=fields.number("canary") or 0,
        stop_if_fail=min(share, 100) / 100,
        rate=fields.number("rate"),
        actor=asked.actor,
        because=asked.reason,
    )
    selected = replays.begin(platform, plan, asked)
    told = f"The replay of {target} has begun: {selected} letters."
    return Effect(told, {"letters": selected}, {"canary": plan.canary, "rate": plan.rate}, outcome="begun")


def _discard(where: Selection, platform: Platform, target: str, fields: Fields, asked: Action) -> Effect:
    count = platform.dead_letters.count(where)
    if fields.number("count") != count:
        raise Refusal(f"{target} has {count} letters now. Write that number, so that no more are removed than you saw.")
    removed = platform.dead_letters.discard(where, actor=asked.actor, because=asked.reason)
    return Effect(f"{removed} letters were removed for good.", {"letters": count}, {"removed": removed})


def _edit(platform: Platform, target: str, fields: Fields) -> Effect:
    from celery_platform.replay import edited

    try:
        patch = json.loads(fields.text("patch"))
    except ValueError as error:
        raise Refusal("'patch' expected a JSON patch: it is no JSON document.") from error
    if not isinstance(patch, list) or not all(isinstance(operation, dict) for operation in patch):
        raise Refusal('\'patch\' expected a list, like [{"op": "replace", "path": "/args/0", "value": 3}].')
    platform.app.loader.import_default_modules()
    asked = fields.action
    letter = edited(platform, target, patch, actor=asked.actor, because=asked.reason)
    # No value goes into the audit log: only where something was changed.
    return Effect(f"{letter.id} has other arguments now.", None, {"paths": [one.get("path") for one in patch]})


DeadLettersPage.deeds = {
    "replay": Deed(lambda p, t, f: _replay(Selection(group=t), p, t, f, f.action), "group"),
    "discard": Deed(lambda p, t, f: _discard(Selection(group=t), p, t, f, f.action), "group"),
}
LetterPage.deeds = {
    "replay": Deed(lambda p, t, f: _replay(Selection(ids=(t,)), p, t, f, f.action), "id"),
    "discard": Deed(lambda p, t, f: _discard(Selection(ids=(t,)), p, t, f, f.action), "id"),
    "edit": Deed(_edit, "id", payloads=True),
}
