"""
Foreign text only shows.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_platform.console.inert import LONGEST, inert


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë zahlt 3 €\n\tendlich", "Zoë zahlt 3 €\n\tendlich"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("bank\u202etxt.exe", "bank\\u202etxt.exe"),
        ("a\u0000b\rc", "a\\x00b\\x0dc"),
        ("half \ud800 a character", "half \\ud800 a character"),
        (None, ""),
        (12, "12"),
    ],
)
def test_acting_characters_are_spelt_out(text, shown):
    assert inert(text) == shown


def test_a_long_text_is_cut_and_says_how_long_it_is():
    assert inert("x" * 1_000_000) == "x" * LONGEST + "… (1,000,000 characters)"
    assert inert("abcdef", 3) == "abc… (6 characters)"


@given(st.text(max_size=300))
def test_whatever_comes_can_be_sent_and_rings_no_bell(text):
    shown = inert(text)
    assert shown.encode().decode() == shown
    assert not any(ord(character) < 0x20 and character not in "\n\t" for character in shown)
