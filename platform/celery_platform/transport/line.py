"""
Ask for messages on one connection, and wait there until a queue stirs.

Waiting is RESP3 client tracking: `EXISTS` on every queue, sent behind a fetch that found nothing, makes the server push
one line to us at the first write to any of them, whoever writes, and forget us again. No polling, no blocking pop.
A server or proxy without RESP3, or a user that may not track, leaves `tracking` false: then the consumer asks again
after a short pause.
"""

from __future__ import annotations

import logging
import select
from typing import TYPE_CHECKING, Any, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_platform.transport.scripts import Script

__all__ = ["HasFileno", "Line"]

logger = logging.getLogger(__name__)


class HasFileno(Protocol):
    """What can be waited on."""

    def fileno(self) -> int:
        """
        Return its descriptor.
        """


class Line:
    """The connection of one consumer; one request is on it at a time."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self.tracking = True
        self._connect = connect
        self._tracked: object = None
        self._expected: list[str] = []
        self._connection: Any = None

    def ask(self, script: Script, keys: Sequence[str], arguments: Sequence[Any], watch: Sequence[str]) -> None:
        """
        Send *script*; with *watch*, also ask to be woken by the next write to one of these keys.
        """
        connection = self._connection = self._connect()
        if connection._sock is None:  # noqa: SLF001 - there is no public way to know
            connection.connect()
        commands: list[tuple[Any, ...]] = []
        self._expected = []
        self.tracking = self.tracking and _speaks_resp3(connection)
        if watch and self.tracking and self._tracked is not _socket(connection):
            commands.append(("CLIENT", "TRACKING", "ON", "OPTIN"))
            self._expected.append("tracking")
            self._tracked = _socket(connection)
        commands.append(script.command(keys, arguments))
        self._expected.append("script")
        if watch and self.tracking:
            commands += (("CLIENT", "CACHING", "YES"), ("EXISTS", *watch))
            self._expected += ("caching", "exists")
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)

    def answer(self) -> tuple[Any, bool]:
        """
        Return the script's reply, and whether something stirred since: then asking again is better than waiting.

        Raises:
            NoScriptError: the server does not know the script.
            ResponseError: the script failed.

        """
        connection = self._live()
        replies: dict[str, Any] = {}
        for name in self._expected:
            try:
                replies[name] = connection.read_response()
            except ResponseError as error:
                replies[name] = error
        self._expected = []
        for name in ("tracking", "caching", "exists"):
            if isinstance(replies.get(name), ResponseError):
                logger.warning("No client tracking on this server (%s): polling instead.", replies[name])
                self.tracking = False
        reply = replies["script"]
        if isinstance(reply, NoScriptError | ResponseError):
            raise reply
        stirred = "exists" in replies and self.tracking and (replies["exists"] > 0 or self.rung())
        return reply, stirred

    def rung(self) -> bool:
        """
        Read what the server pushed, without waiting; return whether there was anything.
        """
        connection = self._live()
        rung = False
        while connection.can_read(timeout=0):
            connection.read_response(push_request=True)
            rung = True
        return rung

    def wait(self, timeout: float, also: Sequence[HasFileno] = ()) -> bool:
        """
        Sleep until the server pushes something or *timeout* seconds are over; return whether it did.

        Something to read on one of *also* ends the sleep, too.
        """
        connection = self._live()
        if connection.can_read(timeout=0):
            return True
        readable, _, _ = select.select([_socket(connection), *also], [], [], max(0.0, timeout))
        return _socket(connection) in readable

    def hang_up(self) -> None:
        """
        Close the connection; the next question opens it again.
        """
        if self._connection is not None:
            self._connection.disconnect()
        self._tracked = None

    def _live(self) -> Any:
        connection = self._connection
        if connection is None or _socket(connection) is None:
            raise RedisConnectionError("The connection on which this consumer waits for messages is gone.")
        return connection


def _socket(connection: Any) -> Any:
    return connection._sock  # noqa: SLF001


def _speaks_resp3(connection: Any) -> bool:
    return str(connection.get_protocol()) == "3"
