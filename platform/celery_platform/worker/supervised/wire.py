"""
Carry short messages between a parent and a child: one JSON object each, never half of one.
"""

from __future__ import annotations

import socket
from typing import Any

import orjson

__all__ = ["Wire"]

_LONGEST = 1 << 17  # bytes; what the kernel takes as one message by default


class Wire:
    """One end; sending and receiving never wait."""

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(0)
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Wire, Wire]:
        """
        Return both ends.
        """
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    def fileno(self) -> int:
        """
        Return the descriptor to wait on.
        """
        return self._end.fileno()

    def send(self, word: str, **rest: Any) -> bool:
        """
        Send *word* with *rest*; return False when the other end is gone, or too busy to listen.
        """
        try:
            self._end.send(orjson.dumps({"word": word, **rest}))
        except OSError:
            return False
        return True

    def receive(self) -> list[dict[str, Any]]:
        """
        Return what has arrived.

        Raises:
            EOFError: the other end is gone, and everything it sent has been read.

        """
        arrived: list[dict[str, Any]] = []
        while True:
            try:
                data = self._end.recv(_LONGEST)
            except BlockingIOError:
                return arrived
            except ConnectionError:
                data = b""
            if not data:
                if arrived:
                    return arrived
                raise EOFError
            arrived.append(orjson.loads(data))

    def close(self) -> None:
        """
        Hang up.
        """
        self._end.close()
