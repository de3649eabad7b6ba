"""What people write into a reason or a parameter is one line."""

import pytest

from lictor.core.model.line import LONGEST_LINE, as_line, is_line


@pytest.mark.parametrize("text", ["", "новый диск", "a-b = c; $(d)", "x" * LONGEST_LINE, "日本"])
def test_a_line_is_a_line_and_stays_as_it_is(text):
    assert is_line(text)
    assert as_line(text) == text


@pytest.mark.parametrize(
    ("typed", "line"),
    [("a\nb", "a b"), (" a\t b\r\n", "a b"), ("a\x1b[2J", "a?[2J"), ("\udcff", "?"), ("\n", "")],
)
def test_what_is_no_line_becomes_one(typed, line):
    assert not is_line(typed)
    assert as_line(typed) == line
    assert is_line(line)


def test_what_is_too_long_is_no_line():
    assert not is_line("x" * (LONGEST_LINE + 1))
