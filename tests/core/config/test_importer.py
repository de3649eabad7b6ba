"""The users' older JSON becomes a config.yml that loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lictor.core.config.importer import import_seed
from lictor.core.config.load import load
from lictor.core.errors import ConfigError
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ProbeSpec
from tests.core.config.support import ENV, accepted, context

SEED = """{
  "brain": {
    "cmd": ["python", "-m", "uvicorn", "brain.main:app", "--host", "0.0.0.0", "--port", "7030"],
    "cwd": "/path/to/astra",
    "env": {
      "PYTHONUNBUFFERED": "1",
      "ASTRA_LOG_LEVEL": "INFO"
    },
    "optional": false,
    "health_check": {
      "url": "http://localhost:7030/",
      "timeout": 5
    },
    "restart_policy": {
      "max_restarts": 3,
      "backoff_seconds": 5
    }
  }
}
"""


def test_the_users_own_example_is_imported_whole(tmp_path):
    config = accepted(tmp_path, import_seed(SEED, source="astra_services.json"))
    spec = config.services[ServiceKey("brain")]
    assert spec.command[:4] == ("python", "-m", "uvicorn", "brain.main:app")
    assert spec.cwd == "/path/to/astra"
    assert spec.env == ENV | {"PYTHONUNBUFFERED": "1", "ASTRA_LOG_LEVEL": "INFO"}
    assert (spec.host, spec.address, spec.port) == ("0.0.0.0", "127.0.0.1", 7030)
    assert spec.health.probe == ProbeSpec("http", "http://localhost:7030/", timeout=5.0)
    assert (spec.restart.max_restarts, spec.restart.backoff) == (3, 5.0)
    assert not spec.optional
    assert config.notes == ()


def test_what_has_no_counterpart_becomes_a_comment(tmp_path):
    text = import_seed(
        '{"services": {"a": {"name": "b", "cmd": ["x"], "gpu": true, "health_check": null},'
        ' "b": {"cmd": ["x"], "health_check": {"url": "http://127.0.0.1:80/", "path": 1}},'
        ' "c": {"cmd": ["x"], "optional": true, "health_check": {"url": "http://127.0.0.1:80/c"}}}}',
        source="s.json",
    )
    for comment in (
        '# the source calls it "b" inside',
        '# not imported: "gpu"',
        '# not imported: "health_check.path"',
        "# port: 80   # is that of b already",
    ):
        assert comment in text
    services = accepted(tmp_path, text).services
    assert services[ServiceKey("c")].optional
    assert services[ServiceKey("c")].port is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a":', "s.json:1:6: not valid JSON: Expecting value"),
        ("{\n  'a': 1}", "not valid JSON: Expecting property name enclosed in double quotes"),
        ("[]", "s.json:1:1: expected an object that maps names to services"),
        ("{}", "s.json:1:1: expected an object that maps names to services"),
        ('{\n "a": 3}', "s.json:2:7: a: expected an object, got '3'"),
        ('{"a": {}}', "s.json:1:2: a: `cmd` is missing"),
        (
            '{"a": {"cmd": "x y"}}',
            "s.json:1:15: a.cmd: expected a list of words (no shell is used), got 'x y'",
        ),
        ('{"a": {"cmd": ["x", null]}}', "s.json:1:21: a.cmd: expected text, got 'null'"),
        ('{"a": {"cmd": ["x", ["y"]]}}', "s.json:1:21: a.cmd: expected text, got a list"),
        ('{"a": {"cmd": ["x"], "cmd": ["y"]}}', "s.json:1:22: cmd: `cmd` is given twice"),
        (
            '{"a": {"cmd": ["x"], "optional": "yes"}}',
            "s.json:1:34: a.optional: expected true or false, got 'yes'",
        ),
        (
            '{"a": {"cmd": ["x"], "env": {"A B": "c"}}}',
            "s.json:1:30: a.env: 'A B' cannot be the name of an environment variable",
        ),
        (
            '{"a": {"cmd": ["x"], "health_check": {"timeout": 1}}}',
            "s.json:1:38: a.health_check: expected a `url`, got an object",
        ),
        (
            '{"a": {"cmd": ["x"],\n "health_check": {"url": "http://u:pw@h/"}}}',
            "s.json:2:26: a.health_check.url: a URL with a user name",
        ),
        (
            '{"a": {"cmd": ["x"], "health_check": {"url": "http://h/", "timeout": -1}}}',
            "s.json:1:70: a.health_check.timeout: expected a number of seconds",
        ),
        (
            '{"a": {"cmd": ["x"], "restart_policy": {"max_restarts": 1.5}}}',
            "s.json:1:57: a.restart_policy.max_restarts: expected a whole number, got '1.5'",
        ),
        ('{"a": {"cmd": ["x"]}, "A": {"cmd": ["x"]}}', "s.json:1:23: A: `A` and `a` are both `a`"),
        ('{"lictor": {"cmd": ["x"]}}', "s.json:1:2: lictor: the name `lictor` is taken"),
        ("[" * 100_000, "s.json: not a JSON file of services"),
        ('{"a": ' + "[" * 50 + "]" * 50 + "}", "nested deeper than 32 levels"),
    ],
)
def test_a_wrong_source_is_refused_at_its_place(text, problem):
    with pytest.raises(ConfigError) as caught:
        import_seed(text, source="s.json")
    assert problem in str(caught.value)
    assert "pw@" not in str(caught.value)


words = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
env_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
services = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True).filter(
        lambda n: n not in {"consul", "lictor", "services"}
    ),
    st.fixed_dictionaries(
        {"cmd": st.lists(words, min_size=1, max_size=5).filter(lambda c: c[0] != "")},
        optional={
            "env": st.dictionaries(env_names, words, max_size=3),
            "optional": st.booleans(),
            "health_check": st.fixed_dictionaries(
                {"url": st.integers(1, 65535).map(lambda p: f"http://localhost:{p}/h")},
                optional={
                    "timeout": st.integers(1, 60) | st.floats(0.5, 60).map(lambda f: round(f, 2))
                },
            ),
            "restart_policy": st.fixed_dictionaries(
                {},
                optional={"max_restarts": st.integers(0, 9), "backoff_seconds": st.integers(0, 9)},
            ),
            "unknown": words,
        },
    ),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=services)
def test_every_right_source_becomes_a_config_that_says_the_same(tmp_path: Path, seed):
    path = tmp_path / "config.yml"
    path.write_text(import_seed(json.dumps(seed), source="s.json"), encoding="utf-8")
    config = load(path, context())
    assert [key.name for key in config.services] == list(seed)
    for key, spec in config.services.items():
        source = seed[key.name]
        assert list(spec.command) == source["cmd"]
        assert spec.env == ENV | source.get("env", {})
        assert spec.optional == source.get("optional", False)
