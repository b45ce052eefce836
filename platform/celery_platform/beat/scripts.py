"""
Load the Lua scripts of the schedules and run them by digest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery_platform.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ACQUIRE", "CLAIM", "RELEASE", "Script"]


class Script:
    """One `.lua` file: its text, its digest, and how to run it."""

    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Any, keys: Sequence[str], arguments: Sequence[Any]) -> int:
        """
        Run the script and return its reply; a server that has forgotten it is told again.

        Raises `StoreError` when the store does not answer.
        """
        from redis.exceptions import NoScriptError, RedisError

        try:
            try:
                return int(client.evalsha(self.sha, len(keys), *keys, *arguments))
            except NoScriptError:
                return int(client.eval(self.text, len(keys), *keys, *arguments))
        except RedisError as error:
            raise StoreError(
                f"The state store did not answer: {error}. Check PLATFORM_STATE_URL and that the server is up."
            ) from error


ACQUIRE = Script("acquire")
CLAIM = Script("claim")
RELEASE = Script("release")
