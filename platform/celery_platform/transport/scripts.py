"""
Load the transport's Lua scripts and run them by digest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import Redis

__all__ = ["DEPTHS", "EXCHANGE", "KEEP_RESULTS", "PARK", "RENEW", "TAKE_OVER", "Script"]


class Script:
    """One `.lua` file: its text, its digest, and how to run it."""

    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """
        Return the words of the command that runs the script, for a connection that knows it.
        """
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def run(self, client: Redis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """
        Run the script and return its reply; a server that has forgotten it is told again.
        """
        send: Callable[..., Any] = client.execute_command
        try:
            return send(*self.command(keys, arguments))
        except NoScriptError:
            return send("EVAL", self.text, len(keys), *keys, *arguments)


DEPTHS = Script("depths")
EXCHANGE = Script("exchange")
KEEP_RESULTS = Script("keep_results")
PARK = Script("park")
RENEW = Script("renew")
TAKE_OVER = Script("take_over")
