"""Text from strangers: one line, nothing invisible, whatever the bytes."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from lictor.core.probes.text import one_line, visible

BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def harmless(text: str) -> bool:
    return text.isprintable() or not any(
        unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in BIDI for c in text
    )


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_nothing_that_controls_a_terminal_is_left(raw):
    assert harmless(visible(raw))
    assert harmless(one_line(raw, 40))
    assert len(one_line(raw, 40)) <= 40


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=100))
def test_what_is_harmless_stays_as_it_is(text):
    assert visible(text) == text
    assert visible(text.encode()) == text


def test_controls_are_shown_as_what_they_are():
    raw = "\x1b[31m\x00 \x7f \x9b \u202e \U000e0041 a\tb".encode() + b"\xff"
    assert visible(raw) == "\\x1b[31m\\x00 \\x7f \\x9b \\u202e \\U000e0041 a    b\ufffd"
    assert visible("\ud800") == "\\ud800"


def test_one_line_is_the_first_that_says_something():
    assert one_line(b"\n\n  first \r\nsecond") == "first"
    assert one_line("") == ""
    assert one_line("x" * 300, 10) == "x" * 9 + "…"
