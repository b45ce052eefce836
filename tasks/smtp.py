"""
Hand one message to one mail server, and name its refusals.
"""

from __future__ import annotations

import os
import smtplib
import ssl
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

__all__ = ["MailServer", "PermanentRefusal", "TemporaryRefusal", "deliver"]

_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PERMANENT = 500


class TemporaryRefusal(Exception):  # noqa: N818 - what the server does, in its own words
    """The server asked to try again later: a 4xx reply, or credentials that an operator has to mend."""


class PermanentRefusal(Exception):  # noqa: N818
    """The server will never take this message: a 5xx reply, or a feature it lacks."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """
    Where mail is handed in; *timeout* is in seconds and holds for each step of the conversation.
    """

    host: str
    port: int
    security: str = "smtp"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout: float = 20.0

    @classmethod
    def from_url(cls, url: str) -> MailServer:
        """
        Read ``smtp://``, ``smtp+starttls://`` or ``smtps://`` ``[user:password@]host[:port]``.

        Raises `ValueError` for another scheme, and for a password that would travel unencrypted to another machine.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"TASKS_SMTP_URL expected {', '.join(_PORTS)}://host, got scheme {parts.scheme!r}.")
        if parts.password and parts.scheme == "smtp" and parts.hostname not in _LOOPBACK:
            raise ValueError("TASKS_SMTP_URL would send its password in clear. Use smtp+starttls:// or smtps://.")
        user, password = (unquote(part) if part else None for part in (parts.username, parts.password))
        return cls(parts.hostname, parts.port or _PORTS[parts.scheme], parts.scheme, user, password)

    @classmethod
    def from_environment(cls) -> MailServer:
        """
        Read ``TASKS_SMTP_URL``; without it, the server of this machine on port 25.
        """
        return cls.from_url(os.environ.get("TASKS_SMTP_URL", "smtp://localhost"))


def deliver(message: EmailMessage, recipient: str, server: MailServer) -> None:
    """
    Hand *message* to *server* for *recipient*.

    One recipient a message: a retry can then never reach someone who already has it. Raises `TemporaryRefusal`,
    `PermanentRefusal`, or `OSError` when the server cannot be reached. No error names the recipient.
    """
    try:
        with _connected(server) as connection:
            connection.send_message(message, to_addrs=[recipient])
    except smtplib.SMTPRecipientsRefused as refused:
        code, reply = next(iter(refused.recipients.values()))
        raise _refusal(code, reply, recipient) from None
    except smtplib.SMTPAuthenticationError as refused:
        raise TemporaryRefusal(
            f"{server.host} refused the credentials of TASKS_SMTP_URL ({refused.smtp_code})."
        ) from None
    except smtplib.SMTPResponseException as refused:
        raise _refusal(refused.smtp_code, refused.smtp_error, recipient) from None
    except smtplib.SMTPNotSupportedError as lacking:
        raise PermanentRefusal(f"{server.host}: {lacking}") from None


@contextmanager
def _connected(server: MailServer) -> Iterator[smtplib.SMTP]:
    context = ssl.create_default_context()
    connection = (
        smtplib.SMTP_SSL(server.host, server.port, timeout=server.timeout, context=context)
        if server.security == "smtps"
        else smtplib.SMTP(server.host, server.port, timeout=server.timeout)
    )
    try:
        if server.security == "smtp+starttls":
            connection.starttls(context=context)
        if server.user is not None:
            connection.login(server.user, server.password or "")
        yield connection
    finally:
        # The message is accepted by now, or it failed: a clumsy good-bye must not send it a second time.
        with suppress(OSError):
            connection.quit()
        connection.close()


def _refusal(code: int, reply: bytes | str, recipient: str) -> TemporaryRefusal | PermanentRefusal:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    said = f"{code} {text.replace(recipient, 'the recipient')}"
    return PermanentRefusal(said) if code >= _PERMANENT else TemporaryRefusal(said)
