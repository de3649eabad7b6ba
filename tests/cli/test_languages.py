"""Three languages, complete and alike; data in none of them."""

from __future__ import annotations

import ast
import json
import re
import string
from pathlib import Path

import pytest

import lictor.cli
from lictor.cli.app import COMMANDS
from lictor.core.locales import LANGUAGES, catalogue
from lictor.core.model.plan import Verb
from lictor.core.model.state import Health, Phase
from tests.cli.fake_agent import row

SOURCES = sorted(Path(lictor.cli.__file__).parent.glob("*.py"))


def _params(template: str) -> set[tuple[str, str]]:
    found = string.Formatter().parse(template)
    return {(name, spec or "") for _, name, spec, _ in found if name is not None}


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code != "en"])
def test_every_text_exists_with_the_same_parameters(language):
    english, other = catalogue("en", "cli"), catalogue(language, "cli")
    assert list(other) == list(english)
    for key, template in english.items():
        assert _params(other[key]) == _params(template), key
        assert other[key].strip(), key


@pytest.mark.parametrize(("language", "letters"), [("ru", "[а-яё]"), ("zh", "[\u4e00-\u9fff]")])
def test_no_text_was_left_untranslated(language, letters):
    same_everywhere = {"column.pid", "column.id", "column.cpu", "field.pid", "field.cpu_percent"}
    same_everywhere |= {"ask.choice", "kind.consul"}
    for key, template in catalogue(language, "cli").items():
        if key not in same_everywhere:
            assert re.search(letters, template.lower()), key


def test_every_key_that_the_source_names_exists():
    english = catalogue("en", "cli")
    named = re.compile(
        r"(?:prefix|help|hint|error|usage|option|ask|column|field|word|status|"
        r"health|plan|change|reload|down|logs|consul|discover|resolve|config|"
        r"progress)\.[a-z_.]+"
    )
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"say", "Column"}:
                for part in ast.walk(node.args[0]):
                    if isinstance(part, ast.Constant) and named.fullmatch(str(part.value)):
                        found.add(part.value)
    assert len(found) > 80
    assert found <= english.keys()


def test_every_word_of_a_closed_set_exists():
    english = catalogue("en", "cli")
    for kind, values in (("phase", Phase), ("health", Health), ("action", Verb)):
        for value in values:
            assert f"{kind}.{value}" in english
    for name in COMMANDS:
        assert f"help.{name}" in english


@pytest.mark.parametrize(
    ("language", "heading", "phase", "help_text"),
    [
        ("en", "SERVICE", "ready", "Usage:"),
        ("ru", "СЕРВИС", "готов", "Использование:"),
        ("zh", "服务", "就绪", "用法："),
    ],
)
def test_tables_and_help_speak_the_language(agent, run, language, heading, phase, help_text):
    rows = [row("piper")]
    agent(status=rows)
    env = {"LICTOR_LANG": language}
    shown = run("status", env=env).stdout
    assert shown.startswith(heading)
    assert f"● {phase}" in shown
    assert run("status", "--help", env=env).stdout.startswith(help_text)
    assert json.loads(run("status", "-o", "json", env=env).stdout) == rows


@pytest.mark.parametrize(
    ("language", "prefix"), [("en", "error: No agent"), ("ru", "ошибка: "), ("zh", "错误：")]
)
def test_errors_speak_the_language(run, language, prefix):
    done = run("status", env={"LICTOR_LANG": language})
    assert done.returncode == 5
    assert done.stderr.startswith(prefix)


def test_the_locale_chooses_when_lictor_lang_does_not(run):
    assert run("status", env={"LANG": "ru_RU.UTF-8"}).stderr.startswith("ошибка:")
    assert run("status", env={"LANG": "de_DE.UTF-8"}).stderr.startswith("error:")


@pytest.mark.parametrize(
    "extra",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "LICTOR_LANG": "zh"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1", "LICTOR_LANG": "ru"},
    ],
    ids=str,
)
def test_a_terminal_without_our_letters_does_not_crash_us(agent, run, extra):
    rows = [row("piper", sentence="Оно работает. 好")]
    agent(status=rows)
    shown = run("status", env=extra)
    assert shown.returncode == 0
    assert "ready" in shown.stdout
    data = run("status", "-o", "json", env=extra)
    assert json.loads(data.stdout) == rows


def test_ascii_only_terminals_get_ascii_glyphs(agent, run):
    agent(status=[row("piper"), row("stt", "failed")])
    shown = run("status", env={"PYTHONIOENCODING": "ascii"}).stdout
    assert shown.isascii()
    assert "+ ready" in shown
    assert "x failed" in shown


def test_a_known_reason_is_translated_and_an_unknown_one_shown_as_sent(monkeypatch):
    from lictor.cli import words

    known = {"test.known": "Код {code}, нужно {needs:size}."}
    monkeypatch.setattr(words, "catalogue", lambda *_: known)
    monkeypatch.setattr(
        words, "render", lambda code, params, language: known[code].format(**params)
    )
    monkeypatch.setattr(words, "language", lambda: "ru")
    sent = {"sentence": "As sent.", "reason_params": {"code": 1, "needs": "x"}}
    assert words.sentence(sent | {"reason": "test.unknown"}) == "As sent."
    assert words.sentence(sent | {"reason": "test.known"}) == "As sent."  # a size that is a text
    assert words.sentence({"reason": "test.unknown"}) == "test.unknown"
    known["test.known"] = "Код {code}."
    assert words.sentence(sent | {"reason": "test.known"}) == "Код 1."
