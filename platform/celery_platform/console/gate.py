"""
Stand before every handler of Flower's and ours: who asks, may they, is it really them, and what may they see.

A handler is guarded by deriving from it and from `Gate`, `Gate` first; Flower itself is not changed.
"""

from __future__ import annotations

import copy
import hmac
import ipaddress
import logging
from base64 import b64decode
from binascii import Error as NotBase64
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import tornado.web
from tornado.escape import url_escape

from celery_platform.audit import Action
from celery_platform.console.access import LOCAL, Right
from celery_platform.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_platform.console.access import Visitor
    from celery_platform.console.desk import Desk

__all__ = ["HIDDEN", "READING", "Gate", "masked"]

logger = logging.getLogger("celery_platform.console")

READING = {"GET", "HEAD", "OPTIONS"}
HIDDEN = "(hidden: needs the right to see payloads)"
_PAYLOADS = {"args", "kwargs", "result", "argsrepr", "kwargsrepr"}

# What Flower's own pages need: their one inline script, which differs by one digit; its style attributes; its icons.
_POLICY = (
    "default-src 'self'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Gate(tornado.web.RequestHandler):
    """
    What every handler of the console does first; derive from it and from a handler of Flower's.

    *reading* and *writing* are the rights that requests need; *audited* says whether a writing request is put into
    the audit log here (pages of ours do that themselves, and know more).
    """

    reading: ClassVar[Right] = Right.VIEW
    writing: ClassVar[Right] = Right.ADMINISTER
    audited: ClassVar[bool] = True
    visitor: Visitor | None = None
    _asked: Action | None = None

    @property
    def desk(self) -> Desk:
        """
        What the console was opened with.
        """
        found: Desk = self.settings["platform_desk"]
        return found

    @property
    def flower_options(self) -> Any:
        """
        Flower's options.
        """
        return self.application.options  # type: ignore[attr-defined]  # Flower's application has them

    def set_default_headers(self) -> None:
        """
        Set the headers that keep a browser from being turned against its user.
        """
        super().set_default_headers()
        self.set_header("Content-Security-Policy", _POLICY.format(scripts=" ".join(self.desk.inline_scripts)))
        for name, value in HEADERS.items():
            self.set_header(name, value)
        if self._is_encrypted:
            self.set_header("Strict-Transport-Security", "max-age=31536000")

    def set_cookie(self, name: str, value: str | bytes, *args: Any, **options: Any) -> None:
        """
        Set a cookie that other sites cannot use, and that leaves the browser encrypted only where the console is.
        """
        options.setdefault("samesite", "Lax")
        options.setdefault("secure", self._is_encrypted)
        super().set_cookie(name, value, *args, **options)

    @property
    def _is_encrypted(self) -> bool:
        return self.request.protocol == "https"

    async def prepare(self) -> None:
        """
        Let the request in, or end it: 401 and 403 for people, the log-in for pages under OAuth.
        """
        self._refuse_other_names()
        right = self.reading if self.request.method in READING else self.writing
        if right is not Right.OPEN:
            self.visitor = self.current_user
            if self.visitor is None:
                self._send_to_log_in()
                return
            if not self.visitor.may(right):
                raise tornado.web.HTTPError(403, f"{self.visitor.name} is {self.visitor.role}, and may not do this")
        parent = super().prepare()
        if parent is not None:
            await parent
        if self.audited and right > Right.VIEW:
            await self._write_down()

    def _refuse_other_names(self) -> None:
        # Without a log-in, a page of another site could reach this port by a name of its own that leads to 127.0.0.1.
        if self._is_closed or _is_loopback(self.request.host_name):
            return
        raise tornado.web.HTTPError(403, "Without authentication the console answers to localhost only")

    @property
    def _is_closed(self) -> bool:
        return bool(self.flower_options.basic_auth or self.flower_options.auth)

    def _send_to_log_in(self) -> None:
        if self.request.method in READING and not self.request.path.startswith(self._path("/api/")):
            self.redirect(f"{self.get_login_url()}?next={url_escape(self.request.uri or '/')}")
            return
        raise tornado.web.HTTPError(401, "Log in first")

    def _path(self, path: str) -> str:
        prefix = (self.flower_options.url_prefix or "").strip("/")
        return f"/{prefix}{path}" if prefix else path

    def get_current_user(self) -> Visitor | None:
        """
        Return who asks, or nothing for somebody who has to log in.
        """
        options, name = self.flower_options, LOCAL
        if options.basic_auth:
            name = self._name_of_basic(options.basic_auth)
        if options.auth:
            email = self._email(options.auth)
            if email is None:
                return None
            name = email
        return self.desk.roles.visitor(name)

    def _name_of_basic(self, known: list[str]) -> str:
        scheme, _, encoded = self.request.headers.get("Authorization", "").partition(" ")
        try:
            given = b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
        except (NotBase64, ValueError):
            given = b""
        # Compared as bytes: names and passwords need not be ASCII.
        matches = [entry for entry in known if hmac.compare_digest(entry.encode(), given)]
        if not matches:
            raise tornado.web.HTTPError(401)
        return matches[0].partition(":")[0]

    def _email(self, pattern: str) -> str | None:
        from flower.utils.authentication import authenticate

        signed = self.get_secure_cookie("user")
        if signed is None and self.get_cookie("user"):
            self.clear_cookie("user")
            raise tornado.web.HTTPError(403, "The log-in is forged, or older than the console. Log in again")
        email = signed.decode() if signed else ""
        return email if email and authenticate(pattern, email) else None

    def check_xsrf_cookie(self) -> None:
        """
        Refuse what another site made a browser send; programs without a browser's marks need no token under /api/.
        """
        headers = self.request.headers
        site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
        if site and site != "same-origin":
            raise tornado.web.HTTPError(403, "Another site sent this request")
        if origin and urlsplit(origin).netloc != self.request.host:
            raise tornado.web.HTTPError(403, "Another site sent this request")
        browser = site or origin or headers.get("Cookie")
        if not browser and self.request.path.startswith(self._path("/api/")):
            return
        tornado.web.RequestHandler.check_xsrf_cookie(self)

    def write(self, chunk: Any) -> None:
        """
        Write *chunk*; what it says of payloads is hidden from those who may not see them.
        """
        super().write(masked(chunk) if self._hides and isinstance(chunk, dict) else chunk)

    def render(self, template_name: str, **values: Any) -> Any:
        """
        Render a template; actions and payloads are left out for those who have no right to them.
        """
        visitor = self.visitor
        if "read_only" in values and visitor is not None:
            values["read_only"] = values["read_only"] or not visitor.may(Right.OPERATE)
        if self._hides:
            values |= {name: masked(values[name]) for name in ("worker", "task") if name in values}
        return super().render(template_name, **values)

    @property
    def _hides(self) -> bool:
        return self.visitor is not None and not self.visitor.payloads

    async def _write_down(self) -> None:
        visitor = self.visitor
        if visitor is None:
            return
        action = Action(
            actor=visitor.name,
            role=visitor.role,
            action=type(self).__name__,
            target="/".join(part or "" for part in self.path_args),
            address=self.request.remote_ip or "",
        )
        try:
            self._asked = await self.desk.run(self.desk.platform.audit.begin, action)
        except StoreError as error:
            raise tornado.web.HTTPError(503, f"Nothing is done that cannot be written down: {error}") from error

    def on_finish(self) -> None:
        """
        Write down what came of an action of Flower's.
        """
        super().on_finish()
        if self._asked is not None:
            outcome = "done" if self.get_status() < 400 else "refused"  # noqa: PLR2004 - HTTP's line
            self.desk.later(self.desk.platform.audit.end, self._asked, outcome, after=self.get_status())

    @property
    def is_scraper(self) -> bool:
        """
        Whether the request shows the token of the metrics.
        """
        token = self.desk.metrics_token
        given = self.request.headers.get("Authorization", "")
        return token is not None and hmac.compare_digest(f"Bearer {token}".encode(), given.encode())


def masked(value: Any) -> Any:
    """
    Return *value* with arguments and results hidden, at any depth; a task of Flower's as a copy.
    """
    if isinstance(value, dict):
        return {key: HIDDEN if key in _PAYLOADS and inner else masked(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(inner) for inner in value]
    if hasattr(value, "kwargs") and hasattr(value, "uuid"):
        hidden = copy.copy(value)
        for name in _PAYLOADS & set(dir(hidden)):
            setattr(hidden, name, HIDDEN)
        return hidden
    return value


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
