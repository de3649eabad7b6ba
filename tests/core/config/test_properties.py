"""Laws: what is written back reads the same, and no text raises anything but ConfigError."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lictor.core.config.importer import import_seed
from lictor.core.config.load import load
from lictor.core.config.show import as_plain
from lictor.core.config.units import (
    MAX_SECONDS,
    MAX_SIZE,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from lictor.core.errors import ConfigError, Problem
from tests.core.config.support import context, write

many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(st.integers(0, MAX_SECONDS * 1000))
def test_a_duration_written_back_reads_the_same(milliseconds):
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, MAX_SIZE))
def test_a_size_written_back_reads_the_same(count):
    assert parse_size(format_size(count)) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        ("7", 7.0),
        ("0.25", 0.25),
        (" 3s ", 3.0),
        (3, 3.0),
    ],
)
def test_durations_people_write(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "s", "ten", "10 s", "-1s", "1e3", "10sec", "1h 30m", "99999999d", "nan", True, None, [1]],
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("6GiB", 6 << 30), ("10MB", 10_000_000), ("1.5KiB", 1536), ("7", 7), ("8 kb", 8000), (9, 9)],
)
def test_sizes_people_write(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "6G", "six", "-1", "1EB", "9999999TiB", True, None, {}])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "500ms"), (2.5, "2.5s"), (5400, "1h30m"), (86461, "1d1m1s")],
)
def test_durations_are_written_as_people_do(seconds, text):
    assert format_duration(seconds) == text


@many
@given(
    data=st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace"))
)
@example(data=b"\xef\xbb\xbf")
@example(data=b'"\\ud800"')
@example(data=b"? ? ? ? a")
@example(data=b"%YAML 9.9\n--- a")
@example(data=b"services: {a: {command: [x, '\\udcff']}}")
def test_garbage_never_raises_anything_but_config_error(tmp_path: Path, data):
    path = tmp_path / "config.yml"
    path.write_bytes(data)
    with suppress(ConfigError):
        as_plain(load(path, context()))


KEYS = [
    *[
        "agent",
        "consul",
        "web",
        "services",
        "a",
        "b",
        "command",
        "env",
        "port",
        "health",
        "checks",
        "http",
        "tcp",
        "interval",
        "host",
        "user",
    ],
    *[
        "params",
        "default",
        "choices",
        "pattern",
        "instances",
        "depends_on",
        "docker",
        "image",
        "driver",
        "template",
        "meta",
    ],
    *[
        "restart",
        "max_restarts",
        "backoff",
        "gpu",
        "devices",
        "memory",
        "stop",
        "signal",
        "log",
        "umask",
        "activation",
        "group",
    ],
    *[
        "before",
        "cwd",
        "env_file",
        "inherit_env",
        "address",
        "tags",
        "modes",
        "metrics",
        "register",
        "node",
        "data_dir",
    ],
]
WORDS = st.sampled_from(
    [
        *[
            "x",
            "5000",
            "1.5",
            "true",
            "''",
            "none",
            "observed",
            "docker",
            "process",
            "piper",
            "10s",
            "6GiB",
            "/h",
            "-x",
            ".inf",
            "1e999",
        ],
        *[
            "'{port}'",
            "'{param.a}'",
            "'{param.b}'",
            "'${A:-b}'",
            "'${A'",
            "'{'",
            "0.0.0.0",
            "'::'",
            "http://h/",
            "h:1",
            "~",
        ],
        "'" + "9" * 400 + "'",
        "'http://[::1'",
        "always",
    ]
)
TREES = st.recursive(
    WORDS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4).map(
            lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"
        )
    ),
    max_leaves=12,
)
SERVICE = st.dictionaries(st.sampled_from(KEYS), TREES, max_size=5).map(
    lambda d: (
        "{command: [x], " + ", ".join(f"{k}: {v}" for k, v in d.items() if k != "command") + "}"
    )
)


def found(path: Path) -> tuple[Problem, ...]:
    try:
        as_plain(load(path, context()))
    except ConfigError as error:
        return error.problems
    return ()


@settings(many, max_examples=300)
@given(
    services=st.dictionaries(st.sampled_from(["a", "b", "c_c"]), SERVICE | TREES, max_size=3),
    rest=TREES,
)
def test_nearly_right_configs_never_raise_anything_but_config_error(tmp_path: Path, services, rest):
    body = ", ".join(f"{name}: {text}" for name, text in services.items())
    path = write(tmp_path, f"services: {{{body}}}\nagent: {rest}\nweb: {rest}\nconsul: {rest}\n")
    with suppress(ConfigError):
        as_plain(load(path, context()))
    path = write(tmp_path, f"services: {{{body}}}\n")
    assert all(p.line > 0 and p.column > 0 for p in found(path)), "a problem without a place"


@many
@given(text=st.text(max_size=100) | st.text(st.sampled_from('{}[]":,a1 \\\n'), max_size=40))
def test_garbage_to_import_never_raises_anything_but_config_error(text):
    with suppress(ConfigError):
        import_seed(text, source="s.json")


def test_fifty_services_load_well_within_half_a_second(tmp_path):
    """The best of three, in a fresh interpreter, so that a busy machine does not decide."""
    rows = "".join(
        f"  s{i}: {{template: piper, port: {5000 + i}, env: {{A: '1'}}, tags: [a, b]}}\n"
        for i in range(50)
    )
    path = write(tmp_path, "services:\n" + rows)
    program = (
        "import sys, time; t = time.process_time()\n"
        "from pathlib import Path\n"
        "from lictor.core.config.load import LoadContext, load\n"
        "config = load(Path(sys.argv[1]), LoadContext(env={}))\n"
        "assert len(config.services) == 50\n"
        "print(time.process_time() - t)\n"
    )
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", program, path], check=True, capture_output=True
            ).stdout
        )
        for _ in range(3)
    ]
    assert min(times) < 1.0
