"""The sentences: three languages that say the same things, and every code has its sentence."""

from __future__ import annotations

import ast
import json
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lictor.core import errors, locales
from lictor.core.locales import LANGUAGES, duration, gpu_words, language_from, size, text
from tests.support.tree import ROOT, project_files

FOLDER = ROOT / "lictor" / "core" / "locales"
SUBJECTS = sorted(path.stem for path in (FOLDER / "en").glob("*.json"))

#: Codes of `reasons.json` that no string in the package names, each with why it stays.
MAY_BE_UNUSED: dict[str, str] = {}

#: Functions of one module that make reasons from a code they are given: what they put before it,
#: and which of their arguments it is.
WRAPPERS = {
    "spawn.failed": ("start.", 1),
    "document._Refused": ("", 0),
    "direct._row": ("", 1),
}

#: Modules whose errors nobody renders, each with why.
ENGLISH_ONLY = {
    "program": "raised inside a program of somebody else's, which gets Python's exceptions",
    "program_input": "the same",
    "background_loop": "the same",
    "embedded_acl": "its message becomes a parameter of the reason why our own Consul is not there",
}

#: Errors whose kind has a sentence of its own (`worded.record`), or that carry a reason apart.
SAID_BY_THEIR_KIND = {"NoLeader", "StartFailed", "InstallFailed", "Problem"}

_SCRIPT = {"ru": re.compile(r"[а-яё]", re.IGNORECASE), "zh": re.compile(r"[\u4e00-\u9fff]")}


def load(language: str, subject: str) -> dict[str, str]:
    def refuse_twins(pairs: list[tuple[str, str]]) -> dict[str, str]:
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), f"{language}/{subject}: a key stands there twice"
        return dict(pairs)

    source = (FOLDER / language / f"{subject}.json").read_text(encoding="utf-8")
    return json.loads(source, object_pairs_hook=refuse_twins)


def fields(template: str) -> set[tuple[str, str]]:
    """The parameters of a template with their formats."""
    return {
        (name, spec or "")
        for _, name, spec, _ in string.Formatter().parse(template)
        if name is not None
    }


def prose(template: str) -> str:
    """What is left for a translator: no parameters, no `code`, no names of ours."""
    literal = "".join(part for part, *_ in string.Formatter().parse(template))
    return re.sub(r"`[^`]*`|\S*[./_-]\S*", " ", literal)


@dataclass(frozen=True)
class Use:
    """One place in the code that makes a reason. `params` None: they are not written out there."""

    place: str
    code: str
    params: frozenset[str] | None


def package_trees() -> Iterator[tuple[str, ast.Module]]:
    for path in project_files():
        if path.parts[0] == "lictor" and path.suffix == ".py":
            yield str(path), ast.parse((ROOT / path).read_text(encoding="utf-8"))


def called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def code_argument(node: ast.Call) -> ast.expr | None:
    """The expression that gives the code, if this call makes a reason."""
    for keyword in node.keywords:
        if keyword.arg == "reason_code" or (keyword.arg == "code" and called(node) == "Reason"):
            return keyword.value
    return node.args[0] if called(node) in {"because", "Reason"} and node.args else None


def wrapped(stem: str, node: ast.Call) -> tuple[str, ast.expr] | None:
    """The prefix and the expression of the code, if this call is one of the wrappers."""
    known = WRAPPERS.get(f"{stem}.{called(node)}")
    return (known[0], node.args[known[1]]) if known and len(node.args) > known[1] else None


def literals(node: ast.expr) -> list[str]:
    """The codes that an expression may give: a string, or either side of a condition."""
    if isinstance(node, ast.IfExp):
        return [*literals(node.body), *literals(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def params_of(node: ast.Call) -> frozenset[str] | None:
    if called(node) not in {"Reason", "StartFailed"}:
        names = [keyword.arg for keyword in node.keywords]
        return None if None in names else frozenset(names)
    given = [k.value for k in node.keywords if k.arg == "params"]
    if called(node) == "Reason" and len(node.args) > 1:
        given = [node.args[1]]
    if not given:
        return frozenset()
    if not isinstance(given[0], ast.Dict):
        return None
    keys = [k.value if isinstance(k, ast.Constant) else None for k in given[0].keys]
    return None if None in keys else frozenset(keys)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def uses() -> list[Use]:
    found = []
    for path, tree in package_trees():
        for node in calls(tree):
            argument = code_argument(node)
            prefix, given = wrapped(Path(path).stem, node) or ("", argument)
            if given is not None:
                params = params_of(node)
                place = f"{path}:{node.lineno}"
                found += [Use(place, prefix + code, params) for code in literals(given)]
    return found


def strings() -> set[str]:
    return {
        node.value
        for _, tree in package_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


# --- the three languages ---------------------------------------------------------------------


def test_the_subjects_are_known():
    assert {"reasons", "cli"} <= set(SUBJECTS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_subjects(language):
    assert sorted(path.stem for path in (FOLDER / language).glob("*.json")) == SUBJECTS


@pytest.mark.parametrize("language", [x for x in LANGUAGES if x != "en"])
@pytest.mark.parametrize("subject", SUBJECTS)
class TestATranslation:
    def test_has_the_same_keys(self, language, subject):
        english, other = load("en", subject), load(language, subject)
        assert {"missing": set(english) - set(other), "too many": set(other) - set(english)} == {
            "missing": set(),
            "too many": set(),
        }

    def test_has_the_same_parameters_in_the_same_formats(self, language, subject):
        english, other = load("en", subject), load(language, subject)
        differ = {
            key: (sorted(fields(english[key])), sorted(fields(other[key])))
            for key in english.keys() & other.keys()
            if fields(english[key]) != fields(other[key])
        }
        assert differ == {}

    def test_is_written_in_its_own_script(self, language, subject):
        english, other = load("en", subject), load(language, subject)
        foreign = {
            key: other[key]
            for key in english.keys() & other.keys()
            if re.search(r"\b[a-z]{3,}\b", prose(english[key]))
            and not _SCRIPT[language].search(other[key])
        }
        assert foreign == {}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("subject", SUBJECTS)
class TestACatalogue:
    def test_is_a_flat_map_without_an_empty_text(self, language, subject):
        wrong = {
            key: value
            for key, value in load(language, subject).items()
            if not isinstance(value, str) or not value.strip()
        }
        assert wrong == {}

    def test_names_its_parameters_and_can_be_filled_in(self, language, subject):
        for key, template in load(language, subject).items():
            for name, _ in fields(template):
                assert name.isidentifier(), f"{key}: {{{name}}}"
            params = {name: 1 for name, _ in fields(template)}
            filled = text(key, language=language, subject=subject, **params)
            assert [name for name in params if f"{{{name}" in filled] == []
            assert filled != key


def test_english_has_neither_cyrillic_nor_chinese():
    found = {
        (subject, key)
        for subject in SUBJECTS
        for key, value in load("en", subject).items()
        if any(script.search(value) for script in _SCRIPT.values())
    }
    assert found == set()


# --- the codes -------------------------------------------------------------------------------


def test_every_reason_in_the_code_has_a_sentence():
    known = load("en", "reasons")
    assert [use for use in uses() if use.code not in known] == []


def test_every_sentence_gets_the_parameters_that_it_names():
    known = load("en", "reasons")
    short = {
        f"{use.place} {use.code}": missing
        for use in uses()
        if use.params is not None
        and (missing := {name for name, _ in fields(known.get(use.code, ""))} - use.params)
    }
    assert short == {}


def test_a_code_that_is_not_written_out_is_made_where_this_file_knows_it():
    """Or nobody could find it: neither the tests here nor a person with a search."""
    makers = set()
    for path, tree in package_trees():
        for scope in ast.walk(tree):
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                for node in calls(scope):
                    code = code_argument(node)
                    if isinstance(code, ast.Name | ast.JoinedStr | ast.BinOp):
                        makers.add((f"{Path(path).stem}.{scope.name}", f"{path}:{node.lineno}"))
    known = {*WRAPPERS, "reason.because"}
    covered = {place for maker, place in makers if maker in known}
    assert {(maker, place) for maker, place in makers if place not in covered} == set()
    assert known - {maker for maker, _ in makers} == set(), "nobody needs this entry any more"


def test_a_failure_of_consul_has_a_sentence():
    """They become reasons by their `code`, with their message."""
    kinds = [errors.ConsulError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    assert len(kinds) > 8
    known = load("en", "reasons")
    assert {kind.code for kind in kinds} - set(known) == set()
    assert {name for kind in kinds for name, _ in fields(known[kind.code])} <= {"message"}


def test_an_error_is_raised_with_its_reasons_and_not_in_english_alone():
    """Of those that a person meets; `say` is the command line's own voice."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    kinds |= {"DoorError", "NotSignedIn", "NoSuchPage", "TooManyTries", "BadRequestBody"}
    kinds |= {"WrongDoor", "Busy", "TooManyStreams", "NotInConsul", "NoSuchLog", "BadAddress"}
    found = {
        f"{path}:{node.lineno}"
        for path, tree in package_trees()
        if Path(path).stem not in ENGLISH_ONLY and "testing" not in Path(path).parts
        for node in calls(tree)
        if called(node) in kinds - SAID_BY_THEIR_KIND
        and node.args
        and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
    }
    assert found == set()


def test_no_sentence_is_left_over():
    unused = set(load("en", "reasons")) - strings() - {use.code for use in uses()}
    assert unused - set(MAY_BE_UNUSED) == set()
    assert set(MAY_BE_UNUSED) - unused == set()


def test_the_scan_sees_how_reasons_are_made():
    source = (
        "because('a', x=1)\n"
        "reason.because('b' if y else 'c')\n"
        "Reason('d', {'x': 1})\n"
        "StartFailed('text', reason_code='e', params={'x': 1})\n"
        "because('f', **more)\n"
        "because(code)\n"
    )
    seen = {
        code: params_of(node)
        for node in calls(ast.parse(source))
        if (argument := code_argument(node)) is not None
        for code in literals(argument)
    }
    assert seen == {
        "a": {"x"},
        "b": frozenset(),
        "c": frozenset(),
        "d": {"x"},
        "e": {"x"},
        "f": None,
    }


# --- text and numbers ------------------------------------------------------------------------


@pytest.fixture
def sentences(monkeypatch):
    """A small catalogue of our own in place of the real files."""
    shelves = {
        "en": {
            "wait": "next try in {delay:duration}",
            "room": "{needs:size} for {who}",
            "only.en": "hello {who}",
        },
        "ru": {"wait": "следующая попытка через {delay:duration}", "room": "{needs:size}: {who}"},
        "zh": {"wait": "{delay:duration}后重试", "room": "{who} 需要 {needs:size}"},
    }
    monkeypatch.setattr(locales, "catalogue", lambda language, _subject: shelves[language])


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "next try in 1 min 30 s"),
        ("ru", "следующая попытка через 1 мин 30 с"),
        ("zh", "1分钟 30秒后重试"),
    ],
)
def test_a_sentence_is_filled_in_in_its_language(sentences, language, expected):
    assert text("wait", language=language, delay=90) == expected


def test_a_missing_parameter_shows_as_a_question_mark(sentences):
    assert text("room", needs=None) == "? for ?"
    assert text("wait") == "next try in ?"


def test_a_sentence_without_a_translation_is_said_in_english(sentences):
    assert text("only.en", language="ru", who="anna") == "hello anna"


def test_an_unknown_code_shows_itself_with_its_parameters(sentences):
    assert text("no.such") == "no.such"
    assert text("no.such", code=3, why="x") == "no.such (code=3, why=x)"


def test_a_parameter_that_looks_like_a_template_is_only_text(sentences):
    assert text("only.en", who="{delay:duration} {0}") == "hello {delay:duration} {0}"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.42, "0.4 s"),
        (9.97, "10 s"),
        (12.4, "12 s"),
        (59.7, "1 min"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (86400 * 3 + 3600 * 4 + 59, "3 d 4 h"),
    ],
)
def test_a_duration_reads_as_people_say_it(seconds, expected):
    assert duration(seconds) == expected


def test_a_duration_uses_the_units_of_its_language():
    assert duration(7800, "ru") == "2 ч 10 мин"
    assert duration(7800, "zh") == "2小时 10分钟"


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (6_549_825_126, "6.1 GiB"),
        (3 * 1024**4, "3.0 TiB"),
        (2048 * 1024**4, "2048.0 TiB"),
    ],
)
def test_a_size_reads_as_people_say_it(count, expected):
    assert size(count) == expected


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "en"),
        ({"LANG": "ru_RU.UTF-8"}, "ru"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LICTOR_LANG": "zh", "LC_ALL": "ru_RU.UTF-8"}, "zh"),
        ({"LC_ALL": "C", "LANG": "ru_RU.UTF-8"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "ru_RU.UTF-8", "LANG": "en_US.UTF-8"}, "ru"),
        ({"LICTOR_LANG": "RU"}, "ru"),
    ],
)
def test_the_language_comes_from_the_environment(env, expected):
    assert language_from(env) == expected


# --- who holds a card ------------------------------------------------------------------------

ROWS = "xtts 9663676416 idle 2520; pid:4711 3221225472 stranger 0; vllm 1073741824 busy 0; ? 1048576 unnamed 0"


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (
            "en",
            (
                "xtts holds 9.0 GiB (idle 42 min), pid 4711 (not ours) holds 3.0 GiB, vllm holds 1.0 GiB"
                " (busy), somebody holds 1.0 MiB (the driver does not say who)"
            ),
        ),
        (
            "ru",
            (
                "xtts держит 9.0 GiB (простаивает 42 мин), pid 4711 (не наш) держит 3.0 GiB, vllm держит"
                " 1.0 GiB (занят), кто-то держит 1.0 MiB (драйвер не говорит кто)"
            ),
        ),
        (
            "zh",
            (
                "xtts 占用 9.0 GiB（空闲 42分钟），pid 4711（非本程序管理）占用 3.0 GiB，vllm 占用 1.0 GiB"
                "（使用中），某个程序 占用 1.0 MiB（驱动未说明是谁）"
            ),
        ),
    ],
)
def test_who_holds_a_card_is_said_in_the_reader_s_language(language, expected):
    params = {"needs": 1, "gpu": 0, "free": 0, "holders": ROWS}
    assert expected in text("gpu.no_room", language=language, **params)


@pytest.mark.parametrize("odd", ["xtts", "xtts many idle 3", "a 1 idle x", 5, "a b c d e"])
def test_holders_of_another_form_are_shown_as_they_are(odd):
    assert f": {odd}." in text("gpu.no_room", needs=1, gpu=0, free=0, holders=odd)


def test_nobody_on_a_card_is_said_as_well():
    assert "nobody is on it" in text("gpu.no_room", needs=1, gpu=0, free=0, holders="")


def test_the_dashboard_says_holders_in_the_same_words():
    script = (ROOT / "lictor/web/static/js/i18n.js").read_text(encoding="utf-8")
    missing = [
        (language, word)
        for language, words in gpu_words._WORDS.items()
        for word in words.values()
        if f'"{word}"' not in script
    ]
    assert missing == []
