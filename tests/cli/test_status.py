"""`lictor status` and `lictor health`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.fake_agent import OVERVIEW, AgentError, row
from tests.cli.terminal import at_terminal


def test_json_is_what_the_agent_sent(agent, run):
    rows = [row("piper"), row("голос", "failed", sentence="没有")]
    agent(status=rows)
    done = run("status", "-o", "json")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, rows, "")


def test_yaml_is_what_the_agent_sent(agent, run):
    import yaml

    rows = [row("piper", sentence="没有: yes"), row("stt", "stopped")]
    agent(status=rows)
    assert yaml.safe_load(run("status", "-o", "yaml").stdout) == rows


def test_the_table_shows_glyph_word_and_sentence(agent, run):
    agent(status=[row("piper"), row("vllm", "failed", instance="a")])
    lines = run("status").stdout.splitlines()
    assert lines[0].split()[:2] == ["SERVICE", "PHASE"]
    assert "● ready" in lines[1]
    assert "1 min 15 s" in lines[1]
    assert lines[2].startswith("vllm@a")
    assert "✖ failed" in lines[2]
    assert lines[2].endswith("It ended with code 1.")


def test_columns_line_up_with_chinese_text(agent, run):
    agent(status=[row("piper"), row("stt", "stopped")])
    lines = run("status", env={"LICTOR_LANG": "zh"}).stdout.splitlines()
    from lictor.cli.paint import width

    before = [width(line[: line.index("127.0.0.1")]) for line in lines[1:]]
    assert len(set(before)) == 1
    assert before[0] == width(lines[0][: lines[0].index("地址")])


def test_nothing_measured_is_a_dash_and_nothing_used_is_0(agent, run):
    agent(status=[row("piper", "stopped", memory_mb=0, cpu_percent=None)])
    assert run("status").stdout.splitlines()[1].split()[8:12] == ["s", "-", "0", "MB"]


@pytest.mark.parametrize(
    ("phase", "code"),
    [
        ("ready", 0),
        ("starting", 0),
        ("unhealthy", 0),
        ("stopped", 3),
        ("queued", 3),
        ("stopping", 3),
        ("backoff", 3),
        ("failed", 3),
        ("blocked", 3),
        ("unknown", 3),
        ("of-the-future", 3),
    ],
)
def test_a_named_service_that_does_not_run_exits_3(agent, run, phase, code):
    agent(status=[row("piper", phase)])
    assert run("status", "piper", "-o", "json").returncode == code


def test_without_names_stopped_services_are_no_failure(agent, run):
    agent(status=[row("piper", "stopped")])
    assert run("status").returncode == 0


def test_one_of_several_named_that_does_not_run_exits_3(agent, run):
    agent(status=[row("piper"), row("stt", "stopped")])
    assert run("status", "piper", "stt").returncode == 3


def test_an_unknown_name_exits_4(agent, run):
    agent(status=AgentError("service.unknown", "There is no service nope.", 4))
    assert run("status", "nope").returncode == 4


def test_an_agent_that_knows_nothing_of_a_name_exits_4(agent, run):
    agent(status=[])
    done = run("status", "nope")
    assert (done.returncode, done.stdout) == (4, "")


def test_names_are_sent_as_everything_else_writes_them(agent, run):
    fake = agent(status=[row("ollama-server")])
    assert run("status", "Ollama_Server", "piper@A").returncode == 0
    assert fake.args("status") == {"names": ["ollama-server", "piper@a"], "verbose": False}


def test_no_services_at_all_is_said_on_stderr(agent, run):
    agent(status=[])
    done = run("status")
    assert (done.returncode, done.stdout) == (0, "")
    assert "No services" in done.stderr


def test_verbose_shows_what_the_table_has_no_room_for(agent, run):
    more = {
        "command": ["python", "-m", "piper", "two words"],
        "depends_on": ["redis", "db"],
        "next_start_s": 12.0,
        "last_error": "CUDA out of memory",
        "refused": {"sentence": "The value 7 is not one of 1, 2."},
        "checks": {"db": {"tcp": "h:1"}},
    }
    fake = agent(status=[row("piper", "backoff", **more)])
    shown = run("status", "-v").stdout
    assert fake.args("status")["verbose"] is True
    for text in (
        "python -m piper 'two words'",
        "redis, db",
        "12 s",
        "CUDA out of memory",
        "The value 7 is not one of 1, 2.",
        '{"db": {"tcp": "h:1"}}',
    ):
        assert text in shown


def test_trouble_with_consul_and_warnings_go_to_stderr(agent, run):
    consul = {"state": "unreachable", "sentence": "Consul does not answer."}
    said = [{"sentence": "Consul does not answer."}, {"sentence": "It runs as root."}]
    overview = OVERVIEW | {"consul": consul, "warnings": said}  # an agent says the first twice
    agent(status=[row("piper")], overview=overview)
    done = run("status")
    assert done.stderr == "warning: Consul does not answer.\nwarning: It runs as root.\n"
    assert "Consul" not in done.stdout
    assert run("status", "-o", "json").stderr == ""


def test_an_agent_without_overview_still_shows_its_services(agent, run):
    agent(status=[row("piper")], overview=AgentError("usage", "What?", 2))
    done = run("status")
    assert (done.returncode, done.stderr) == (0, "warning: What?\n")
    assert "piper" in done.stdout


def test_what_a_service_prints_cannot_steer_the_terminal(agent, run):
    evil = "a\x1b]0;title\x07b\x1b[2Jc\r\nd\u202e\x9be"
    agent(status=[row("piper", sentence=evil)])
    assert run("status").stdout.splitlines()[1].endswith("abc  de")


def test_ipv6_addresses_are_bracketed(agent, run):
    agent(status=[row("piper", address="::1")])
    assert "[::1]:5000" in run("status").stdout


def test_color_never_comes_without_a_terminal_unless_asked(agent, run):
    agent(status=[row("piper"), row("stt", "failed")])
    plain = run("status").stdout
    assert "\x1b" not in plain
    forced = run("status", env={"CLICOLOR_FORCE": "1"}).stdout
    assert "\x1b[32m● ready\x1b[0m" in forced
    assert run("status", "--color", "always").stdout == forced
    assert run("--color", "always", "status").stdout == forced
    assert run("status", env={"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}).stdout == plain
    assert run("status", "--color", "never", env={"CLICOLOR_FORCE": "1"}).stdout == plain


def test_a_person_sees_colour_glyph_and_word(agent, env):
    agent(status=[row("piper"), row("stt", "failed")])
    code, shown = at_terminal(["status"], env)
    assert code == 0
    assert "\x1b[32m● ready" in shown
    assert "✖ failed" in shown


def test_no_color_is_honoured_on_a_terminal(agent, env):
    agent(status=[row("piper")])
    _, shown = at_terminal(["status"], env | {"NO_COLOR": "1"})
    assert "● ready" in shown
    assert "\x1b" not in shown


def test_a_narrow_terminal_keeps_name_phase_and_sentence(agent, env):
    agent(status=[row("piper")])
    _, shown = at_terminal(["status"], env | {"NO_COLOR": "1"}, columns=60)
    assert "RESTARTS" not in shown
    for text in ("piper", "● ready", "It runs and its"):
        assert text in shown


def test_watch_prints_json_lines_in_a_pipe(agent, env):
    rows = [row("piper")]
    agent(status=rows)
    command = [sys.executable, "-m", "lictor", "status", "--watch", "-o", "json"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.terminate()
        process.wait(30)
    assert [json.loads(line) for line in lines] == [rows, rows]


def test_watch_redraws_on_a_terminal_and_ends_with_ctrl_c(agent, env):
    phases = iter(["starting", "ready"])
    agent(status=lambda _: [row("piper", next(phases, "ready"))])
    code, shown = at_terminal(["status", "--watch"], env, interrupt_after="● ready")
    assert code == 130
    assert "◐ starting" in shown
    assert "\x1b[1A" in shown  # the cursor went up to draw over it
    assert "Traceback" not in shown


CHECKS = [
    {
        "service": "piper",
        "check": "health",
        "status": "passing",
        "output": "HTTP 200",
        "took_ms": 12.4,
    },
    {"service": "piper", "check": "db", "status": "critical", "output": "refused", "took_ms": None},
]


def test_health_exits_0_when_all_pass_and_3_when_one_does_not(agent, run):
    fake = agent(health=lambda args: CHECKS[:1] if args["names"] == ["good"] else CHECKS)
    good = run("health", "good")
    assert good.returncode == 0
    assert "12 ms" in good.stdout
    bad = run("health", "bad", "-o", "json")
    assert (bad.returncode, json.loads(bad.stdout)) == (3, CHECKS)
    assert fake.args("health") == {"names": ["bad"]}


def test_health_of_a_service_without_any_check_is_not_passing(agent, run):
    agent(health=[])
    assert run("health", "piper").returncode == 3
    assert run("health").returncode == 0
