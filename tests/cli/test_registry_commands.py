"""`lictor register|unregister|discover|resolve`, with an agent and without one."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest

from lictor.cli.main import run as run_here
from lictor.core.errors import ConsulUnreachable
from tests.cli.fake_agent import AgentError, Stream


def instance(name: str = "piper", health: str = "passing") -> dict:
    return {
        "service": name,
        "id": f"lictor:host1:{name}",
        "node": "host1",
        "address": "127.0.0.1",
        "port": 5000,
        "tags": ["tts", "cpu"],
        "meta": {},
        "health": health,
        "output": "HTTP 200",
    }


@pytest.fixture
def wiring(monkeypatch, env):
    """The composition root's functions, and this process as the program."""
    for name in ("LICTOR_SOCKET", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LICTOR_DATA_DIR", env["LICTOR_DATA_DIR"])
    monkeypatch.setenv("LICTOR_LANG", "en")
    module = ModuleType("lictor.cli.wiring")
    monkeypatch.setitem(sys.modules, "lictor.cli.wiring", module)
    return module


def test_discover_shows_every_instance(agent, run):
    rows = [instance(), instance(health="critical")]
    fake = agent(discover=rows)
    done = run("discover", "piper", "--tag", "tts", "--dc", "east")
    assert done.returncode == 0
    assert "127.0.0.1:5000" in done.stdout
    assert "✖ critical" in done.stdout
    assert fake.args("discover") == {"name": "piper", "tag": "tts", "dc": "east"}
    assert json.loads(run("discover", "piper", "-o", "json").stdout) == rows


@pytest.mark.parametrize(
    ("rows", "name", "code"),
    [
        ([instance()], "piper", 0),
        ([instance(health="critical")], "piper", 3),
        ([instance(health="warning")], "piper", 3),
        ([], "piper", 4),
        ([instance(health="critical")], None, 0),
        ([], None, 0),
    ],
)
def test_discover_exit_codes(agent, run, rows, name, code):
    agent(discover=rows)
    assert run("discover", *([name] if name else [])).returncode == code


def test_discover_finds_foreign_spellings_too(agent, run):
    fake = agent(discover=lambda args: [instance("web_App")] if args["name"] == "web_App" else [])
    assert run("discover", "web_App").returncode == 0
    assert [args["name"] for _, args in fake.asked] == ["web-app", "web_App"]


def test_discover_of_an_unknown_name_exits_4_after_both_spellings(agent, run):
    fake = agent(discover=AgentError("service.unknown", "Consul knows no such service.", 4))
    assert run("discover", "No_Such").returncode == 4
    assert len(fake.asked) == 2


def test_discover_passes_consuls_failure_on(agent, run):
    agent(discover=AgentError("consul.unreachable", "Consul does not answer.", 6))
    assert run("discover", "piper").returncode == 6


def test_without_an_agent_consul_is_asked_directly(wiring, capsys):
    asked: list[object] = []
    wiring.discover = lambda *args: asked.append(args) or [instance()]
    wiring.register = lambda names: [{"service": names[0], "result": "done", "sentence": "Yes."}]
    wiring.unregister = lambda names: [{"service": names[0], "result": "failed", "sentence": "No."}]
    assert run_here(["discover", "piper", "--tag", "t", "-o", "json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == [instance()]
    assert "asking Consul directly" in said.err
    assert asked == [("piper", "t", None, None, False)]
    assert run_here(["register", "piper"]) == 0
    assert run_here(["unregister", "piper"]) == 1
    assert "Yes." in capsys.readouterr().out


def test_without_agent_and_consul_the_exit_code_is_6(wiring, capsys):
    def nobody(*_: object) -> list[dict]:
        raise ConsulUnreachable("Consul does not answer.", hint="Is it running?")

    wiring.discover = wiring.register = nobody
    assert run_here(["discover"]) == 6
    assert run_here(["register"]) == 6
    assert "hint: Is it running?" in capsys.readouterr().err


def test_an_agent_that_speaks_garbage_is_not_passed_over(wiring, agent, capsys):
    from tests.cli.fake_agent import Raw

    agent(discover=Raw(b"what\n"))
    wiring.discover = lambda *_: [instance()]
    assert run_here(["discover"]) == 5
    assert capsys.readouterr().out == ""


def test_register_asks_the_agent_when_there_is_one(agent, run):
    rows = [{"service": "gpt-sovits-server", "result": "done", "sentence": "It is in Consul."}]
    fake = agent(register=rows, unregister=rows)
    for verb in ("register", "unregister"):
        done = run(verb, "gpt_sovits_server", "-o", "json")
        assert (done.returncode, json.loads(done.stdout)) == (0, rows)
        assert fake.args(verb) == {"names": ["gpt-sovits-server"]}


def resolved(**more: object) -> dict:
    return {
        "question": "piper.service.consul SRV",
        "server": "127.0.0.1:8600",
        "rcode": "NOERROR",
        "answers": [{"address": "127.0.0.1", "port": 5000, "target": "host1.node.consul"}],
        "left_out": [],
    } | more


LEFT_OUT = {"id": "piper-2", "address": "10.0.0.2", "port": 5000, "reason": "it is critical"}


def test_resolve_shows_addresses_and_who_was_left_out(wiring, capsys):
    asked: list[object] = []
    wiring.resolve = lambda *args: asked.append(args) or resolved(left_out=[LEFT_OUT])
    assert run_here(["resolve", "Piper", "--tag", "tts", "--query"]) == 0
    said = capsys.readouterr()
    assert said.out == "127.0.0.1:5000  host1.node.consul\n"
    assert "127.0.0.1:8600 was asked for piper.service.consul SRV" in said.err
    assert "left out: piper-2 at 10.0.0.2:5000: it is critical" in said.err
    assert asked == [("piper", "tts", True)]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (resolved(), 0),
        (resolved(answers=[], rcode="NXDOMAIN"), 4),
        (resolved(answers=[], rcode="NXDOMAIN", left_out=[LEFT_OUT]), 3),
        (resolved(answers=[], rcode="NOERROR"), 3),
        (resolved(answers=[], rcode="SERVFAIL"), 3),
    ],
)
def test_resolve_exit_codes_and_json(wiring, capsys, answer, code):
    wiring.resolve = lambda *_: answer
    assert run_here(["resolve", "piper", "-o", "json"]) == code
    assert json.loads(capsys.readouterr().out) == answer


def test_near_and_all_are_passed_on_only_when_they_are_asked_for(agent, run):
    fake = agent(discover=[instance()])
    assert run("discover", "piper", "--near", "_agent", "--all").returncode == 0
    plain = {"name": "piper", "tag": None, "dc": None}
    assert fake.args("discover") == {**plain, "near": "_agent", "all": True}
    run("discover", "piper")
    assert fake.args("discover") == plain


def test_discover_says_why_one_is_left_out_and_since_when(agent, run):
    why = {"sentence": "x", "reason": "left_out.critical", "reason_params": {"output": "no port"}}
    agent(discover=[instance(), instance(health="critical") | why | {"age_s": 75.0}])
    done = run("discover", "piper")
    assert "1 min 15 s" in done.stdout
    russian = run("discover", "piper", env={"LICTOR_LANG": "ru"}).stdout
    assert "DNS его не показывает" in russian
    assert "no port" in russian


def test_an_answer_from_memory_is_data_all_the_same_and_said_on_stderr(agent, run):
    notice = {
        "sentence": "Consul does not answer (cut): this is what it said 5 s ago.",
        "reason": "discover.from_memory",
        "reason_params": {"message": "cut", "age": 5.0},
    }
    agent(discover=Stream([{"notice": notice}], ok=[instance() | {"cached": True}]))
    done = run("discover", "piper", "-o", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)[0]["cached"] is True
    assert "what it said 5 s ago" in done.stderr


def test_watching_tells_each_change_in_a_line_when_nobody_sits_at_a_terminal(wiring, capsys):
    def follow(name, tag, dc, everybody, show):
        assert (name, tag, dc, everybody) == ("gpt-sovits", "t", None, True)
        one, other = instance("a"), instance("b")
        show([one, other], None)
        show([one, other], None)
        show([one | {"health": "critical", "sentence": "It failed."}], None)
        show([one], {"sentence": "Consul is away."})

    wiring.discover = lambda *_: []  # nobody has either spelling yet: the canonical one is followed
    wiring.watch_discover = follow
    assert run_here(["discover", "GPT_SoVITS", "--tag", "t", "--all", "--watch"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == 4
    assert "passing" in lines[0]
    assert "passing" in lines[1]
    assert lines[2].endswith("It failed.")
    assert lines[3] == "lictor:host1:b on host1 is gone."
    assert "Consul is away." in said.err


def test_a_watch_in_json_is_one_answer_a_line(wiring, capsys):
    wiring.watch_discover = lambda *args: [args[-1]([instance()], None) for _ in range(2)]
    assert run_here(["discover", "--watch", "-o", "json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [[instance()]] * 2


def test_resolve_tells_what_an_empty_answer_means_and_what_the_query_says(wiring, capsys):
    also = resolved(question="piper.query.consul")
    wiring.resolve = lambda *_: resolved(
        answers=[], rcode="SERVFAIL", sentence="SERVFAIL: nobody knows.", a=["127.0.0.1"], also=also
    )
    assert run_here(["resolve", "piper"]) == 3
    said = capsys.readouterr().err
    assert "SERVFAIL: nobody knows." in said
    assert "addresses: A 127.0.0.1; AAAA -" in said
    assert "piper.query.consul gives 127.0.0.1:5000." in said
