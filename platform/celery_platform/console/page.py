"""
Answer for one page of ours: show it as HTML or as JSON, and do what is asked on it, never unseen.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import tornado.web
from flower.views import BaseHandler

from celery_platform.audit import Action
from celery_platform.clock import duration_of
from celery_platform.console.access import Right
from celery_platform.console.gate import Gate
from celery_platform.console.inert import inert
from celery_platform.errors import PlatformError, StoreError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery_platform.celery_app import Platform

__all__ = ["Deed", "Effect", "Fields", "Page", "Refusal"]

_LONGEST_REASON = 500
_TOLD = "platform_told"
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Refusal(Exception):  # noqa: N818 - what it is: nothing went wrong
    """What was asked cannot be done as it was asked; the message is for whoever asked."""


class Fields:
    """What a form or a JSON document says, checked when it is asked for; *action* is what was written down of it."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.action = Action(actor="", role="", action="", target="")
        self._given = {name: str(value).strip() for name, value in given.items() if value is not None}

    def text(self, name: str, default: str | None = None) -> str:
        """
        Return the text of *name*, or *default*.

        Raises `Refusal` when there is neither.
        """
        value = self._given.get(name) or default
        if value is None:
            raise Refusal(f"{name!r} is missing.")
        return value

    def number(self, name: str) -> int | None:
        """
        Return a whole number from 1, or nothing when none is given.

        Raises `Refusal` for anything else.
        """
        value = self._given.get(name)
        if not value:
            return None
        if not (value.isascii() and value.isdigit()) or int(value) < 1:
            raise Refusal(f"{name!r} expected a whole number from 1, got {inert(value, 40)!r}.")
        return int(value)

    def seconds(self, name: str) -> float | None:
        """
        Return a duration in seconds, or nothing when none is given.

        Raises `Refusal` for anything that is no duration.
        """
        value = self._given.get(name)
        try:
            return duration_of(value) if value else None
        except ValueError as error:
            raise Refusal(f"{name!r} {inert(error, 200)}") from error

    def ticked(self, name: str) -> bool:
        """
        Tell whether a box is ticked.
        """
        return self._given.get(name, "").lower() in {"1", "true", "on", "yes"}


@dataclass(frozen=True, slots=True)
class Effect:
    """What an action changed: *told* is the sentence for whoever did it, *before* and *after* are for the audit log."""

    told: str
    before: Any = None
    after: Any = None
    outcome: str = "done"


@dataclass(frozen=True, slots=True)
class Deed:
    """
    One action of a page: the right it needs, the field that names its target, and what does it, in a thread.

    *payloads* says that the right to see them is needed as well. *do* gets the platform, the target and the fields;
    it raises `Refusal` or `PlatformError` to refuse.
    """

    do: Callable[[Platform, str, Fields], Effect]
    target: str
    right: Right = Right.OPERATE
    payloads: bool = False


class Page(Gate, BaseHandler, ABC):
    """
    One page under /platform/ and its twin under /api/platform/.

    A page says what it shows in `look`, which runs in a thread and may block, and what can be done in `deeds`.
    """

    template: ClassVar[str]
    title: ClassVar[str]
    tab: ClassVar[str]
    deeds: ClassVar[Mapping[str, Deed]] = {}
    writing = Right.VIEW
    audited = False
    # Seconds between two looks of an open page; 0 for a page that stands still.
    refresh: ClassVar[float] = 3

    def initialize(self, *, as_json: bool = False) -> None:
        """
        Take down in which of its two forms the page was asked for.
        """
        self.as_json = as_json

    @abstractmethod
    def look(self, *path: str) -> dict[str, Any]:
        """
        Return what the page shows, as JSON values; `tornado.web.HTTPError` says that it is not there.
        """

    def observed(self, *path: str) -> dict[str, Any]:
        """
        Return what only Flower's own loop knows; `look` finds it in `seen`.
        """
        del path
        return {}

    async def get(self, *path: str) -> None:
        """
        Show the page.
        """
        self.seen = self.observed(*path)
        try:
            shown = await self.desk.run(self._looked, *path)
        except (PlatformError, OSError) as error:
            self._show_outage(error)
            return
        if self.as_json:
            self._write_json(shown)
            return
        self.show(self.template, **shown)

    def _looked(self, *path: str) -> dict[str, Any]:
        from kombu.exceptions import OperationalError

        try:
            return self.look(*path)
        except OperationalError as error:
            raise StoreError(f"The broker did not answer: {error}") from error

    async def post(self, *path: str) -> None:
        """
        Do what is asked, and lead back to the page; a program gets the outcome as JSON.
        """
        try:
            told = await self._do(path)
        except Refusal as refusal:
            return self._answer(400, inert(refusal, 1000))
        except StoreError as error:
            return self._answer(503, f"Nothing was done, for it could not be written down. {inert(error, 1000)}")
        except PlatformError as error:
            return self._answer(409, inert(error, 1000))
        return self._answer(200, told)

    async def _do(self, path: tuple[str, ...]) -> str:
        fields = Fields(self._given())
        name = fields.text("action")
        deed = self.deeds.get(name)
        if deed is None:
            raise Refusal(f"There is no action {inert(name, 80)!r} here.{did_you_mean(name, self.deeds)}")
        visitor = self.visitor
        if visitor is None or not visitor.may(deed.right):
            raise tornado.web.HTTPError(403, f"{visitor} may not {name}: that needs the role {deed.right.role}")
        if deed.payloads and not visitor.payloads:
            raise tornado.web.HTTPError(403, f"{visitor} may not {name}: that needs the right to see payloads")
        if self.flower_options.read_only:
            raise tornado.web.HTTPError(403, "The console is read-only (--read_only)")
        target, reason = path[0] if path else fields.text(deed.target), fields.text("reason")
        if len(reason) > _LONGEST_REASON:
            raise Refusal(f"A reason has at most {_LONGEST_REASON} characters, this one has {len(reason)}.")
        action = Action(
            actor=visitor.name,
            role=visitor.role,
            action=f"{self.tab}.{name}",
            target=inert(target, 1000),
            reason=reason,
            address=self.request.remote_ip or "",
        )
        return await self.desk.run(_written_down, self.desk.platform, deed, action, target, fields)

    def _given(self) -> Mapping[str, Any]:
        if not self.as_json:
            return {name: values[-1].decode(errors="replace") for name, values in self.request.body_arguments.items()}
        # A form of another site cannot send this type.
        if not self.request.headers.get("Content-Type", "").startswith("application/json"):
            raise tornado.web.HTTPError(415, "Expected application/json")
        try:
            given = json.loads(self.request.body or b"{}")
        except ValueError as error:
            raise Refusal("The body is no JSON document.") from error
        if not isinstance(given, dict):
            raise Refusal("The body expected a JSON object.")
        return given

    def _answer(self, status: int, told: str) -> None:
        if self.as_json:
            self.set_status(status)
            self._write_json({"done": status == 200, "message": told})  # noqa: PLR2004 - HTTP's word for done
            return
        # Signed, so that nobody can make the console say something by a link.
        self.set_secure_cookie(_TOLD, json.dumps([status, told[:1000]]), expires_days=0.001)
        self.redirect(self.request.path, status=303)

    def _write_json(self, document: Any) -> None:
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        tornado.web.RequestHandler.write(self, json.dumps(document, default=str))

    def show(self, template: str, **values: Any) -> None:
        """
        Render one of our templates.
        """
        visitor = self.visitor
        operates = visitor is not None and visitor.may(Right.OPERATE) and not self.flower_options.read_only
        self.render(
            template,
            page=self,
            visitor=visitor,
            operates=operates,
            told=self._told(),
            inert=inert,
            now=time.time(),
            **values,
        )

    def asset(self, name: str) -> str:
        """
        Return the address of a static file of ours.
        """
        return self.reverse_url("platform-static", name)

    def call_url(self, call_id: str) -> str:
        """
        Return the address of a call's page.
        """
        return self.reverse_url("platform-call", call_id)

    @staticmethod
    def day_of(text: str | None) -> str:
        """
        Return an ISO 8601 time as text (UTC), or nothing for nothing.
        """
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if text else ""

    @staticmethod
    def time_of(at: float | None, *, milliseconds: bool = False) -> str:
        """
        Return a Unix time in seconds as text (UTC), or nothing for nothing.
        """
        if not at:
            return ""
        text = datetime.fromtimestamp(at, UTC).isoformat(" ", "milliseconds" if milliseconds else "seconds")
        return text.removesuffix("+00:00")

    @staticmethod
    def span_of(seconds: float | None) -> str:
        """
        Return a duration for people, or nothing for none.
        """
        if not seconds:
            return ""
        return next(
            (f"{seconds / unit:.1f} {name}" for unit, name in _SPANS if seconds >= unit), f"{seconds * 1000:.0f} ms"
        )

    def _told(self) -> tuple[int, str] | None:
        signed = self.get_secure_cookie(_TOLD)
        if not signed:
            return None
        self.clear_cookie(_TOLD)
        status, told = json.loads(signed)
        return status, told

    def _show_outage(self, error: Exception) -> None:
        self.set_status(503)
        if self.as_json:
            self._write_json({"error": inert(error, 1000)})
            return
        self.show("outage.html", error=inert(error, 1000))

    def write_error(self, status_code: int, **options: Any) -> None:
        """
        Say what is wrong, in the form that was asked for.
        """
        if not getattr(self, "as_json", False) or status_code == 401:  # noqa: PLR2004 - which asks for a password
            super().write_error(status_code, **options)
            return
        problem = options.get("exc_info", (None, None))[1]
        message = problem.log_message if isinstance(problem, tornado.web.HTTPError) else None
        self._write_json({"error": inert(message or "The console failed; its log says why.", 1000)})
        self.finish()


def _written_down(platform: Platform, deed: Deed, action: Action, target: str, fields: Fields) -> str:
    asked = fields.action = platform.audit.begin(action)
    try:
        effect = deed.do(platform, target, fields)
    except (Refusal, PlatformError) as refusal:
        platform.audit.end(asked, "refused", after=inert(refusal, 300))
        raise
    except Exception as error:
        platform.audit.end(asked, "failed", after=type(error).__name__)
        raise
    platform.audit.end(asked, effect.outcome, before=effect.before, after=effect.after)
    return effect.told
