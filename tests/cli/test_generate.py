"""`lictor generate systemd`: a unit that systemd reads, and that starts what it says."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.agent import unique, wait_until
from tests.support.children import alive, child, marked, text_of
from tests.support.notified import NotifySocket, abstract_name


def settings(text: str) -> dict[str, str]:
    """The settings of a unit; each is named once in ours."""
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    names = [line.partition("=")[0] for line in lines]
    assert len(set(names)) == len(names), names
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def unit(run, home):
    """Makes the unit of a config.yml, and gives its text."""

    def make(config: str = "services: {}\n", *options: str) -> str:
        path = home / "config.yml"
        path.write_text(config)
        done = run("generate", "systemd", "-c", str(path), *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return make


def verified(text: str, folder: Path, *options: str) -> str:
    """What systemd itself has to say about a unit."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    path = folder / "lictor.service"
    path.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *options, str(path)],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_unit_tells_systemd_what_keeps_services_alive(unit, home):
    found = settings(unit())
    assert found["Type"] == "notify"
    assert found["Restart"] == "always"
    assert found["KillMode"] == "process"
    assert found["WatchdogSec"] == "30"
    assert found["Delegate"] == "yes"
    assert found["OOMScoreAdjust"] == "-500"
    assert found["OOMPolicy"] == "continue"
    assert found["ProtectSystem"] == "strict"
    assert found["ExecStart"].endswith(f"up -c {home}/config.yml --on-term keep")
    assert found["WantedBy"] == "multi-user.target"


def test_systemd_finds_nothing_wrong_with_it(unit, home):
    assert "lictor.service" not in verified(unit(), home)
    assert "lictor.service" not in verified(unit("services: {}\n", "--user"), home, "--user")


def test_a_user_s_unit_asks_for_nothing_that_only_root_may_give(unit):
    found = settings(unit("services: {}\n", "--user"))
    assert found["WantedBy"] == "default.target"
    assert not {"OOMScoreAdjust", "ProtectSystem", "ReadWritePaths", "After"} & found.keys()


def test_the_older_spelling_prints_the_same(run, home):
    (home / "config.yml").write_text("services: {}\n")
    options = ("-c", str(home / "config.yml"))
    old, new = run("generate-systemd", *options), run("generate", "systemd", *options)
    assert old.returncode == new.returncode == 0
    assert old.stdout == new.stdout


def test_every_folder_that_something_writes_to_can_be_written(run, home):
    config = """
services:
  one: {command: [x], cwd: /srv/models/one, logs: [/srv/logs/one.log]}
  two: {command: [x], cwd: /srv/models, env: {HOME: /srv/home}}
  three: {command: [x], cwd: /}
  seen: {driver: observed, port: 6379}
"""
    path = home / "config.yml"
    path.write_text(config)
    env = {"LICTOR_DATA_DIR": "/srv/state"}
    done = run("generate", "systemd", "-c", str(path), env=env)
    paths = settings(done.stdout)["ReadWritePaths"].split()
    assert "-/srv/state" in paths
    assert {"-/srv/models", "-/srv/logs", "-/srv/home", "-/tmp"} <= set(paths)
    assert "-/srv/models/one" not in paths  # within another
    assert not {"-/", "/", "-/usr", "-/etc"} & set(paths)


def test_the_agent_s_folder_is_there_before_it_starts(unit, run, home):
    assert settings(unit())["ExecStartPre"] == f"+/bin/mkdir -p -m 0700 {home}"
    path = home / "config.yml"
    path.write_text("agent: {data_dir: /var/lib/lictor/two}\nservices: {}\n")
    env = {"LICTOR_DATA_DIR": None}
    found = settings(run("generate", "systemd", "-c", str(path), env=env).stdout)
    assert found["StateDirectory"] == "lictor/two"
    assert "ExecStartPre" not in found


def test_rights_may_be_taken_on_only_where_services_run_as_other_users(unit):
    assert "\nNoNewPrivileges=yes\n" in unit()
    mixed = unit("services:\n  one: {command: [x], user: nobody}\n")
    assert "\nNoNewPrivileges=yes\n" not in mixed


@pytest.mark.parametrize("name", ["a b", "per%cent", "do$llar", 'quo"te', "back\\slash"])
def test_odd_paths_are_quoted_for_systemd(run, home, name):
    folder = home / name
    folder.mkdir()
    written = name.replace("$", "$$")  # as config.yml wants it
    config = f"services:\n  one: {{command: [x], cwd: '/srv/{written}'}}\n"
    (folder / "config.yml").write_text(config)
    done = run("generate", "systemd", "-c", str(folder / "config.yml"))
    assert done.returncode == 0, done.stderr
    assert "lictor.service" not in verified(done.stdout, home)
    found = settings(done.stdout)

    def read(text: str) -> list[str]:
        return [word.replace("%%", "%") for word in shlex.split(text)]

    start = [word.replace("$$", "$") for word in read(found["ExecStart"])]
    assert start[start.index("-c") + 1] == str(folder / "config.yml")
    assert f"-/srv/{name}" in read(found["ReadWritePaths"])
    assert found["WorkingDirectory"].replace("%%", "%") == str(folder)


def test_a_path_with_a_line_break_makes_no_unit(run, home):
    folder = home / "a\nExecStart=evil"
    folder.mkdir()
    (folder / "config.yml").write_text("services: {}\n")
    done = run("generate", "systemd", "-c", str(folder / "config.yml"))
    assert (done.returncode, done.stdout) == (2, "")


def test_a_wrong_config_makes_no_unit(run, home):
    (home / "config.yml").write_text("services: {x: {comand: [x]}}\n")
    done = run("generate", "systemd", "-c", str(home / "config.yml"))
    assert done.returncode != 0
    assert done.stdout == ""


def test_generate_alone_shows_what_there_is(run):
    done = run("generate")
    assert done.returncode == 2
    assert "systemd" in done.stderr


def test_what_the_unit_starts_is_ready_and_leaves_its_services_running(unit, home, env):
    name = unique("piper")
    argv = ", ".join(f'"{word}"' for word in child("good"))
    text = unit(
        "web: {enabled: false}\nconsul: {embedded: never}\n"
        f"services:\n  {name}: {{command: [{argv}], health: none}}\n"
    )
    found = settings(text)
    key, _, value = shlex.split(found["Environment"])[0].partition("=")
    systemd = NotifySocket(abstract_name())
    usec = str(int(found["WatchdogSec"]) * 1_000_000)
    with (home / "said").open("wb") as said:
        agent = subprocess.Popen(
            shlex.split(found["ExecStart"]),
            env={**env, key: value, "NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": usec},
            stderr=said,
        )
    try:
        systemd.wait_for(lambda said: said.get("READY") == "1")
        systemd.wait_for(lambda said: "1 of 1" in said.get("STATUS", ""))
        mark = text_of(home / "agent-id").strip()
        (service,) = marked(mark)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(30) == 0
        assert alive(service)
    finally:
        systemd.close()
        agent.kill()
        agent.wait(30)
        for pid in marked(text_of(home / "agent-id").strip()):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: not alive(pid))
