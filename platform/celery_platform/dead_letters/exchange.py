"""
Write dead letters as lines of JSON, and read them back, all or none.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from celery_platform.dead_letters.letter import DeadLetter
from celery_platform.dead_letters.selection import REASONS
from celery_platform.errors import DeadLetterError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["line_of", "read"]

_TEXTS = ("id", "call_id", "task", "reason", "error")
_NUMBERS = ("buried_at", "attempts", "deliveries")


def line_of(letter: DeadLetter) -> str:
    """
    Return *letter* as one line of JSON, payload included.
    """
    return json.dumps(asdict(letter), default=str)


def read(lines: Iterable[str]) -> list[DeadLetter]:
    """
    Return the letters of *lines*; empty lines are passed over.

    Raises `DeadLetterError` that names the line and what is wrong with it.
    """
    return [_letter(line, number) for number, line in enumerate(lines, 1) if line.strip()]


def _letter(line: str, number: int) -> DeadLetter:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise DeadLetterError(f"Line {number} is not JSON ({error}). Nothing was imported.") from error
    if problem := _problem(fields):
        raise DeadLetterError(f"Line {number} is no dead letter: {problem}. Nothing was imported.")
    try:
        letter = DeadLetter.from_json(line)
        if letter.message:
            _ = letter.raw
    except (TypeError, ValueError) as error:
        raise DeadLetterError(f"Line {number} is no dead letter: {error}. Nothing was imported.") from error
    return letter


def _problem(fields: Any) -> str:
    if not isinstance(fields, dict):
        return f"expected an object, got {type(fields).__name__}"
    for name in (*_TEXTS, *_NUMBERS):
        kind: Any = str if name in _TEXTS else (int, float)
        if not isinstance(fields.get(name), kind) or isinstance(fields.get(name), bool):
            return f"{name!r} expected {'a text' if name in _TEXTS else 'a number'}, got {fields.get(name)!r}"[:200]
    if not fields["id"]:
        return "'id' is empty"
    if fields["reason"] not in REASONS:
        return f"'reason' expected one of {', '.join(REASONS)}, got {fields['reason']!r}"
    if not isinstance(fields.get("message", {}), dict):
        return "'message' expected an object"
    return ""
