"""
Refuse calls that are too large to travel well.
"""

from __future__ import annotations

from celery_platform.errors import PayloadTooLarge

__all__ = ["check_size"]


def check_size(body: bytes | str | int, limit: int, task: str) -> int:
    """
    Return the size of *body* in bytes; an ``int`` is taken as the size itself.

    Raises `PayloadTooLarge` when it is above *limit* bytes.
    """
    size = body if isinstance(body, int) else len(body.encode() if isinstance(body, str) else body)
    if size > limit:
        raise PayloadTooLarge(task, size, limit)
    return size
