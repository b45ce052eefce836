"""
Put other arguments into a dead letter.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_platform.dead_letters.letter import DeadLetter

__all__ = ["changed"]


def changed(letter: DeadLetter, args: Sequence[Any], kwargs: dict[str, Any], *, at: float) -> DeadLetter:
    """
    Return *letter* with other arguments; the bytes that were received stay in its message as ``received``.

    The texts of the arguments are cleared: who knows the task's contract may write them anew. Raises `DeadLetterError`
    when the letter never had arguments.
    """
    _, _, embed = letter.arguments()
    parcel = letter.parcel()
    body = json.dumps([list(args), kwargs, embed]).encode()
    headers = {name: value for name, value in parcel.headers.items() if name not in {"argsrepr", "kwargsrepr"}}
    properties = {**parcel.properties, "content_type": "application/json", "content_encoding": "utf-8"}
    message = {
        "raw": base64.b64encode(body).decode(),
        "headers": headers,
        "properties": properties,
        "received": letter.message.get("received", letter.message.get("raw")),
    }
    return replace(letter, message=message, argsrepr="", kwargsrepr="", edited_at=at)
