"""
Give a folder a Redis of its own when no broker is configured.

A real server on a unix socket, shared by every process of the folder, started on demand and stopped when its last user
has left, with its data in `.celery-platform/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_platform.embedded.place import Place
from celery_platform.embedded.session import Status, ensure_running, start, status, stop

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Place", "Status", "broker_url", "ensure_running", "result_url", "socket_url", "start", "status", "stop"]


def broker_url(folder: Path | None = None) -> str:
    """
    Return the URL of the embedded server of *folder* for kombu and Flower; nothing is started.
    """
    return f"redis+socket://{Place.of(folder).socket}?virtual_host=0"


def result_url(folder: Path | None = None) -> str:
    """
    Return the URL of the embedded server of *folder* for Celery's result backend: the same form as the broker's.
    """
    return broker_url(folder)


def socket_url(folder: Path | None = None) -> str:
    """
    Return the URL of the embedded server of *folder* for redis-py.
    """
    return f"unix://{Place.of(folder).socket}?db=0"
