"""
Make foreign text harmless to look at: no control character acts, and nothing is endless.

HTML is no concern of this module: templates escape every value.
"""

from __future__ import annotations

import unicodedata
from typing import Any

__all__ = ["LONGEST", "inert"]

LONGEST = 4_000
# Cc: control (ANSI escapes begin with one); Cf: format, such as those that turn the direction of writing round;
# Co, Cs: private use and halves of characters, which show as anything.
_ACTING = {"Cc", "Cf", "Co", "Cs"}
_LAYOUT = {"\n", "\t"}


def inert(value: Any, limit: int = LONGEST) -> str:
    """
    Return *value* as text that only shows: acting characters spelt out, cut after *limit* characters with its length.

    Nothing is returned for None.
    """
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    head = text[:limit]
    if not head.isprintable():
        head = "".join(_spelt(character) for character in head)
    return head if len(text) <= limit else f"{head}… ({len(text):,} characters)"


def _spelt(character: str) -> str:
    if character in _LAYOUT or unicodedata.category(character) not in _ACTING:
        return character
    return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"  # noqa: PLR2004 - a byte
