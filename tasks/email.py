"""
Send e-mail: text and HTML from templates, and a Message-ID that gives a duplicate away.
"""

from __future__ import annotations

import mimetypes
import os
import re
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, localtime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from celery_platform import PII, Backoff, Dead, current_call, platform_task
from tasks.rendering import render
from tasks.smtp import MailServer, PermanentRefusal, TemporaryRefusal, deliver

__all__ = ["send_email"]

_TEMPLATE = re.compile(r"[a-z][a-z0-9_-]*")
_LARGEST_ATTACHMENTS = 15 * 1024 * 1024


@platform_task(
    priority="high",
    retry=Backoff(on=(TemporaryRefusal, OSError), attempts=8, first=5, ceiling=900),
    timeout=90,
)
def send_email(
    to: PII[str],
    subject: str,
    template: str,
    context: PII[dict[str, Any]] | None = None,
    attachments: list[Path] | None = None,
) -> str:
    """
    Send one message to one recipient, and return its Message-ID.

    *template* names a pair in `tasks/templates`: ``NAME.txt`` and, if there is one, ``NAME.html``. The server comes
    from ``TASKS_SMTP_URL``, the sender from ``TASKS_MAIL_FROM``. A 4xx reply and a silent server are tried again; a 5xx
    reply, a bad address, a missing template or attachment bury the call. A worker that dies between the server's
    "accepted" and the acknowledgement sends the message again, under the same Message-ID.
    """
    message = _compose(to.reveal(), subject, template, context.reveal() if context is not None else {})
    _attach(message, attachments or [])
    try:
        deliver(message, to.reveal(), MailServer.from_environment())
    except PermanentRefusal as refused:
        raise Dead(f"the mail server refused for good: {refused}") from None
    return str(message["Message-ID"])


def _compose(to: str, subject: str, template: str, context: dict[str, Any]) -> EmailMessage:
    sender = os.environ.get("TASKS_MAIL_FROM", "no-reply@localhost")
    message = EmailMessage()
    try:
        message["From"] = _address(sender)
        message["To"] = _address(to)
        message["Subject"] = subject
        message["Date"] = format_datetime(localtime())
        message["Message-ID"] = f"<{current_call().id}@{_address(sender).domain}>"
    except (ValueError, IndexError, MessageError) as bad:
        # The parser's message quotes the address; the reason of a dead letter must not.
        raise Dead(f"an address or the subject is not a header value ({type(bad).__name__}).") from None
    _fill(message, template, context)
    return message


def _address(text: str) -> Address:
    address = Address(addr_spec=text)
    if not (address.username and address.domain):
        raise ValueError(text)
    return address


def _fill(message: EmailMessage, template: str, context: dict[str, Any]) -> None:
    if not _TEMPLATE.fullmatch(template):
        raise Dead(f"{template!r} is not a template name; expected lower-case letters, digits, '-' and '_'.")
    folder = Path(__file__).parent / "templates"
    try:
        message.set_content(render(f"{template}.txt", **context))
        if (folder / f"{template}.html").exists():
            message.add_alternative(render(f"{template}.html", **context), subtype="html")
    except TemplateError as broken:
        raise Dead(f"template {template!r} could not be filled: {broken}") from None


def _attach(message: EmailMessage, paths: list[Path]) -> None:
    try:
        size = sum(path.stat().st_size for path in paths)
        if size > _LARGEST_ATTACHMENTS:
            raise Dead(f"attachments of {size} bytes; at most {_LARGEST_ATTACHMENTS} are sent. Send a link instead.")
        for path in paths:
            kind, encoding = mimetypes.guess_type(path.name)
            main, _, sub = (kind if kind and not encoding else "application/octet-stream").partition("/")
            message.add_attachment(path.read_bytes(), maintype=main, subtype=sub, filename=path.name)
    except FileNotFoundError as missing:
        raise Dead(f"attachment {missing.filename!r} does not exist.") from None
