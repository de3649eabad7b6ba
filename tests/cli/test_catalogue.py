"""`lictor add`, `lictor install` and `lictor gpu advise`, without an agent."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from lictor.core.config.services import template_names

CONFIG = """\
# mine
agent:
  node: here   # a name

services:
  a:
    command: [sleep, "1"]   # why not

  # --- examples
  # b: {command: [x]}
"""


@pytest.fixture
def config(home) -> Path:
    path = home / "config.yml"
    path.write_text(CONFIG)
    path.chmod(0o640)
    return path


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "fast text to speech"), ("ru", "быстрый синтез речи"), ("zh", "快速合成语音")],
)
def test_alone_it_lists_the_catalogue_with_a_sentence_each(run, language, words):
    done = run("add", env={"LICTOR_LANG": language})
    assert done.returncode == 0
    shown = done.stdout.splitlines()
    assert [line.split()[0] for line in shown[1:]] == list(template_names())
    (piper,) = [line for line in shown if line.startswith("piper ")]
    assert words in piper
    assert "5000" in piper


def test_the_catalogue_as_data(run):
    rows = json.loads(run("add", "-o", "json").stdout)
    by = {row["template"]: row for row in rows}
    assert by["piper"]["installs"]
    assert by["vllm"]["gpu"]
    assert by["vllm"]["driver"] == "auto"
    assert (by["vllm"]["port"], by["telegram-bot"]["port"]) == (11434, None)
    assert not by["brain"]["installs"]


def test_an_entry_is_shown_and_written_and_everything_else_stays(run, config):
    done = run("add", "piper", "-c", str(config))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Piper, fast text to speech on the CPU")
    assert "\npiper:\n  template: piper\n  port: 5000\n" in done.stdout
    entry = "".join(f"  {line}\n" if line else "\n" for line in done.stdout.splitlines())
    head, tail = CONFIG.split("   # why not\n")
    assert config.read_text() == f"{head}   # why not\n\n{entry}{tail}"
    assert config.stat().st_mode & 0o777 == 0o640
    assert "lictor install piper" in done.stderr
    assert run("config", "check", str(config)).returncode == 0
    assert [path.name for path in config.parent.glob(".config*")] == []


def test_name_and_port_can_be_chosen_and_json_tells_them(run, config):
    done = run(
        "add", "piper", "--name", "Voice_2", "--port", "5055", "-c", str(config), "-o", "json"
    )
    told = json.loads(done.stdout)
    assert told["service"] == "voice-2"
    assert told["file"] == str(config)
    assert "port: 5055" in told["entry"]
    shown = json.loads(run("config", "show", "-c", str(config), "-o", "json").stdout)
    assert shown["services"]["voice-2"]["port"] == 5055


def test_a_name_that_exists_is_refused_and_nothing_is_written(run, config):
    done = run("add", "piper", "--name", "a", "-c", str(config))
    assert done.returncode == 8
    assert "has a service `a` already" in done.stderr
    assert config.read_text() == CONFIG


def test_what_would_not_check_is_refused_with_its_place_in_the_real_file(run, config):
    assert run("add", "piper", "-c", str(config)).returncode == 0
    before = config.read_text()
    done = run("add", "piper", "--name", "second", "-c", str(config))
    assert done.returncode == 2
    assert "port 5000 on 127.0.0.1 is already that of `piper`" in done.stderr
    assert f"{config}:" in done.stderr
    assert config.read_text() == before
    assert [path.name for path in config.parent.glob(".config*")] == []


def test_an_unknown_template_is_no_such_thing(run, config):
    done = run("add", "pipper", "-c", str(config))
    assert done.returncode == 4
    assert "`pipper`" in done.stderr


def test_without_any_config_one_is_made(run, home):
    done = run("add", "redis", cwd=home)
    assert done.returncode == 0, done.stderr
    text = (home / "config.yml").read_text()
    assert text.startswith(
        "services:\n  # Redis, a cache in memory.\n  redis:\n    template: redis\n"
    )
    assert run("config", "check", cwd=home).returncode == 0


def test_the_remarks_about_the_new_service_are_said(run, config):
    run("add", "ollama", "-c", str(config))
    done = run("add", "vllm", "-c", str(config))
    assert done.returncode == 0, done.stderr
    assert "port 11434 is also that of `ollama`" in done.stderr


def test_a_comment_is_in_the_language_of_the_person(run, config):
    done = run("add", "piper", "-c", str(config), env={"LICTOR_LANG": "ru"})
    assert "# Piper, быстрый синтез речи на CPU" in config.read_text()
    assert "Дальше: lictor install piper" in done.stderr


@pytest.mark.parametrize(("answer", "written"), [(b"y\n", True), (b"n\n", False)])
def test_on_a_terminal_it_asks_first(env, config, answer, written):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lictor", "add", "redis", "-c", str(config)],
        env=env,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, answer)
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert b"template: redis" in out
    assert process.returncode == (0 if written else 8)
    assert ("redis" in config.read_text()) == written


# --- install ---------------------------------------------------------------------------------------


def test_a_service_that_declares_nothing_says_so(run, config):
    done = run("install", "a", "-c", str(config))
    assert done.returncode == 0
    assert "a declares nothing to install" in done.stderr


def test_a_name_that_nobody_knows_is_no_such_service(run, config):
    done = run("install", "nothing-such", "-c", str(config))
    assert done.returncode == 4
    assert "`nothing-such`" in done.stderr


@pytest.mark.parametrize("language", ["en", "ru"])
def test_a_python_that_cannot_is_told_in_the_language_of_the_person(run, home, language):
    env = {"PYTHON": "/bin/false", "LICTOR_LANG": language}
    done = run("install", "piper", env=env, cwd=home)
    assert done.returncode == 1
    assert "/bin/false" in done.stderr
    words = {"en": "cannot make a virtual environment", "ru": "не может создать"}
    assert words[language] in done.stderr


def test_an_image_without_a_docker_driver_is_refused_with_the_reason(run, home):
    done = run("install", "vosk", cwd=home)
    assert done.returncode == 1
    assert "alphacep/kaldi-ru:latest" in done.stderr


def test_a_template_is_installed_without_being_in_the_config(run, config, home):
    """The program that ships with Lictor is put in place without any package being fetched."""
    config.write_text(
        f"agent: {{data_dir: {home}}}\nservices:\n  x:\n    command: [x]\n    install:\n"
        f"      files: [{{resource: whisper.yml, to: '{{data_dir}}/whisper.yml'}}]\n"
    )
    done = run("install", "x", "-c", str(config))
    assert done.returncode == 0, done.stderr
    assert "whisper-1" in (home / "whisper.yml").read_text()
    again = run("install", "x", "-c", str(config))
    assert "everything is here already" in again.stderr


# --- gpu advise ------------------------------------------------------------------------------------


def test_a_host_without_a_gpu_is_told_what_is_left(run):
    done = run("gpu", "advise")
    assert done.returncode == 0
    assert "No GPU is seen on this host" in done.stderr
    assert "Recommended." in next(line for line in done.stdout.splitlines() if "Cloud LLM" in line)


def test_a_card_that_is_only_thought_of(run):
    done = run("gpu", "advise", "--memory", "12GiB", "--capability", "8.6", "-o", "json")
    told = json.loads(done.stdout)
    (best,) = [row for row in told["table"] if row["recommended"]]
    assert (best["vram_gb"], best["llm"], best["voice"]) == (12, "Qwen2.5-7B AWQ", "XTTS v2")
    assert (best["llm_service"], best["voice_service"], best["here"]) == ("vllm", "xtts", True)
    assert {row["service"] for row in told["services"]} <= set(template_names())


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "Recommended."), ("ru", "Рекомендуется."), ("zh", "推荐。")],
)
def test_the_advice_speaks_the_language(run, language, words):
    done = run("gpu", "advise", "--memory", "24GiB", env={"LICTOR_LANG": language})
    (line,) = [line for line in done.stdout.splitlines() if words in line]
    assert "Llama-3.1-8B FP16" in line


@pytest.mark.parametrize("words", [("--memory", "much"), ("--capability", "8.6")])
def test_a_card_that_makes_no_sense_is_a_usage_error(run, words):
    assert run("gpu", "advise", *words).returncode == 2
