"""`lictor config check|show|schema|import`, on real files, without any agent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

GOOD = """\
services:
  piper:
    command: [python, -m, piper.http_server]
    port: 5000
    health: {http: "http://{host}:{port}/info"}
  bot:
    command: [sleep, "1"]
    depends_on: [piper]
"""

BAD = """\
services:
  piper:
    comand: [python]
    port: many
"""

SEED = {
    "brain": {
        "cmd": ["python", "-m", "uvicorn", "brain.main:app", "--port", "7030"],
        "cwd": "/srv/astra",
        "env": {"PYTHONUNBUFFERED": "1"},
        "optional": False,
        "health_check": {"url": "http://localhost:7030/", "timeout": 5},
        "restart_policy": {"max_restarts": 3, "backoff_seconds": 5},
    }
}


@pytest.fixture
def config(home):
    def write(text: str, name: str = "config.yml") -> str:
        path = home / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        return str(path)

    return write


def test_a_valid_config_exits_0(config, run):
    path = config(GOOD)
    done = run("config", "check", "-c", path)
    assert (done.returncode, done.stdout) == (
        0,
        f"{path} is valid and defines this many services: 2.\n",
    )
    data = json.loads(run("config", "check", path, "-o", "json").stdout)
    assert (data["valid"], data["services"]) == (True, ["piper", "bot"])


def test_every_problem_is_listed_with_its_place(config, run):
    path = config(BAD)
    done = run("config", "check", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{path}:3:5" in done.stderr
    assert f"{path}:4:" in done.stderr
    assert "command" in done.stderr  # what was meant by `comand`
    found = run("config", "check", path, "-o", "json")
    data = json.loads(found.stdout)
    assert (found.returncode, found.stderr, data["valid"]) == (2, "", False)
    assert {problem["line"] for problem in data["problems"]} >= {3, 4}


def test_a_missing_file_exits_2(run, home):
    assert run("config", "check", "-c", str(home / "none.yml")).returncode == 2
    done = run("config", "check", "-o", "json", cwd=home)
    assert done.returncode == 2
    assert json.loads(done.stdout)["valid"] is False


def test_the_config_is_found_in_the_working_folder(config, run, home):
    config(GOOD)
    assert run("config", "check", cwd=home).returncode == 0


def test_show_is_the_config_after_expansion(config, run):
    import yaml

    path = config(GOOD)
    shown = run("config", "show", "-c", path)
    assert shown.returncode == 0
    plain = yaml.safe_load(shown.stdout)
    assert "http://127.0.0.1:5000/info" in shown.stdout
    assert "{port}" not in shown.stdout
    assert json.loads(run("config", "show", "-c", path, "-o", "json").stdout) == plain


def test_the_schema_is_a_json_schema(run):
    schema = json.loads(run("config", "schema").stdout)
    assert {"agent", "consul", "web", "services"} <= schema["properties"].keys()


def test_an_older_file_becomes_a_config_that_is_valid(config, run, home):
    seed = config(json.dumps(SEED), "astra_services.json")
    done = run("config", "import", seed)
    assert done.returncode == 0
    (home / "astra").mkdir()
    path = config(done.stdout.replace("/srv/astra", str(home / "astra")), "new.yml")
    assert run("config", "check", path).returncode == 0
    data = json.loads(run("config", "check", path, "-o", "json").stdout)
    assert data["services"] == ["brain"]


def test_an_older_file_may_come_through_a_pipe(config, run):
    with Path(config(json.dumps(SEED), "seed.json")).open() as seed:
        done = run("config", "import", "-", stdin=seed)
    assert done.returncode == 0
    assert "brain" in done.stdout


def test_a_file_that_cannot_be_read_exits_1(run, home):
    done = run("config", "import", str(home / "none.json"))
    assert done.returncode == 1
    assert "No such file" in done.stderr


def test_config_without_a_command_is_a_usage_error(run):
    done = run("config")
    assert done.returncode == 2
    assert "check" in done.stderr
    assert "Did you mean 'check'" in run("config", "chekc").stderr
