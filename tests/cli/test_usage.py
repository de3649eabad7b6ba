"""Mistakes on a command line are told in the person's language, in click's own words too."""

from __future__ import annotations

import pytest

MISTAKES = [
    (("start", "Foo!!"), "«Foo!!» — не имя DNS"),
    (("start", "a" * 64), "длиннее 63 знаков"),
    (("events", "--kind", "zz"), "--kind': «zz» — не одно из 'access', "),
    (("events", "-n", "x"), "--lines': «x» — не целое число."),
    (("events", "-n", "999999"), "999999 вне диапазона 0<=x<=100000."),
    (("events", "-n"), "Параметру -n нужно значение."),
    (("events", "--follow=3"), "Параметру --follow значение не нужно."),
    (("version", "more", "words"), "Лишние аргументы: more words."),
    (("version", "more"), "Лишние аргументы: more."),
    (("gpu", "advise", "--memory", "3GiB", "--capability", "x"), "«x» — не число."),
    (("add", "piper", "--name", "!!"), "«!!» — не имя DNS"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES)
def test_a_mistake_is_told_in_the_person_s_language(run, words, said):
    done = run(*words, env={"LICTOR_LANG": "ru"})
    assert done.returncode == 2
    assert said in done.stderr


def test_in_english_they_are_click_s_own_words(run):
    done = run("events", "-n", "x", env={"LICTOR_LANG": "en"})
    said = "error: Invalid value for '-n' / '--lines': 'x' is not a valid integer range."
    assert done.stderr.startswith(said)
