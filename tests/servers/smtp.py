"""
An SMTP server that keeps what it receives, and refuses as often as it is told.
"""

from __future__ import annotations

import email
import email.policy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiosmtpd.controller import Controller

from tests.servers.process import free_port

if TYPE_CHECKING:
    from email.message import EmailMessage
    from typing import Self


@dataclass(frozen=True, slots=True)
class Received:
    """One message with its envelope."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage


class SmtpServer:
    """
    A real SMTP server in a thread of the tests.

    `refuse` makes it answer an error to the next messages; `attempts` counts all of them, refused ones included.
    """

    def __init__(self) -> None:
        self.messages: list[Received] = []
        self.attempts = 0
        self._refusals: list[str] = []
        self._controller: Controller | None = None
        self.port = 0

    def refuse(self, times: int = 1, answer: str = "451 4.3.0 try again later") -> None:
        """
        Answer *answer* to the next *times* messages.
        """
        self._refusals += [answer] * times

    def clear(self) -> None:
        """
        Forget messages, attempts and refusals.
        """
        self.messages.clear()
        self._refusals.clear()
        self.attempts = 0

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """
        Take one message, or refuse it.
        """
        self.attempts += 1
        if self._refusals:
            return self._refusals.pop(0)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.messages.append(Received(envelope.mail_from, tuple(envelope.rcpt_tos), message))
        return "250 OK"

    def start(self) -> Self:
        """
        Listen on a private port of the loopback interface.
        """
        self.port = self.port or free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=30)
        self._controller.start()
        return self

    def stop(self) -> None:
        """
        Stop listening; `start` listens on the same port again.
        """
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def url(self) -> str:
        """
        Return its URL, ``smtp://host:port``.
        """
        return f"smtp://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
