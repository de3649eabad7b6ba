"""`lictor start|stop|restart|wait`: what is asked, what is shown, how it exits."""

from __future__ import annotations

import json

import pytest

from tests.cli.fake_agent import AgentError, Stream
from tests.cli.terminal import at_terminal


def result(name: str = "piper", word: str = "done", **more: object) -> dict:
    return {
        "service": name,
        "result": word,
        "phase": "ready",
        "sentence": "It runs.",
        "reason": "test.reason",
        "reason_params": {},
    } | more


def test_the_seeds_spelling_reaches_the_agent_as_a_dns_name(agent, run):
    fake = agent(change=[result("ollama-server")])
    assert run("start", "ollama_server").returncode == 0
    args = fake.args("change")
    assert (args["verb"], args["names"], args["all"]) == ("start", ["ollama-server"], False)


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
@pytest.mark.parametrize("words", [[], ["--all"]])
def test_no_name_means_all(agent, run, verb, words):
    fake = agent(change=[result()])
    assert run(verb, *words).returncode == 0
    args = fake.args("change")
    assert (args["verb"], args["names"], args["all"]) == (verb, [], True)


def test_names_together_with_all_make_no_sense(agent, run):
    agent()
    assert run("start", "piper", "--all").returncode == 2


def test_options_are_passed_on(agent, run):
    fake = agent(change=[result()])
    assert (
        run("start", "piper", "--wait", "--timeout", "1h30m", "--node", "n2", "-y").returncode == 0
    )
    assert fake.args("change") == {
        "verb": "start",
        "names": ["piper"],
        "all": False,
        "wait": True,
        "yes": True,
        "timeout": 5400.0,
        "node": "n2",
    }


@pytest.mark.parametrize(
    ("word", "plain", "waited"),
    [
        ("done", 0, 0),
        ("already", 0, 0),
        ("requested", 0, 0),
        ("pending", 0, 124),
        ("failed", 1, 1),
    ],
)
def test_results_decide_the_exit_code(agent, run, word, plain, waited):
    agent(change=[result("stt"), result(word=word)], wait=[result(word=word)])
    assert run("start", "piper").returncode == plain
    assert run("start", "piper", "--wait").returncode == waited
    assert run("wait", "piper").returncode == waited


def test_a_failure_beats_a_timeout(agent, run):
    agent(wait=[result(word="pending"), result("stt", "failed")])
    assert run("wait", "piper", "stt").returncode == 1


@pytest.mark.parametrize(("code", "exit_code"), [("service.unknown", 4), ("timed_out", 124)])
def test_the_agents_own_exit_codes_pass_through(agent, run, code, exit_code):
    agent(wait=AgentError(code, "No.", exit_code))
    assert run("wait", "piper").returncode == exit_code


def test_json_is_the_list_of_results(agent, run):
    rows = [result(), result("stt", "already")]
    agent(change=Stream([{"service": "piper", "phase": "starting"}], rows))
    done = run("restart", "--wait", "-o", "json")
    assert json.loads(done.stdout) == rows


def test_progress_in_a_pipe_is_a_line_for_each_change(agent, run):
    starting = {"service": "piper", "phase": "starting", "sentence": "It loads.", "elapsed": 1.0}
    ready = {"service": "piper", "phase": "ready", "sentence": "It runs.", "elapsed": 2.0}
    agent(change=Stream([starting, starting | {"elapsed": 1.5, "log": "x"}, ready], [result()]))
    done = run("start", "piper", "--wait")
    assert done.stderr == "piper: ◐ starting - It loads.\npiper: ● ready - It runs.\n"
    assert "piper" in done.stdout


def test_progress_on_a_terminal_is_one_line_redrawn(agent, env):
    items = [
        {
            "service": "piper",
            "phase": "starting",
            "sentence": "It loads.",
            "elapsed": i,
            "log": "ln",
        }
        for i in range(3)
    ]
    agent(change=Stream(items, [result()]))
    code, shown = at_terminal(["start", "piper", "--wait"], env, columns=80)
    assert code == 0
    assert shown.count("\x1b[1F") == 3  # two redraws and the removal
    assert "It loads.  ln" in shown
    assert shown.rstrip().endswith("It runs.")


def test_the_clock_on_a_terminal_moves_while_the_agent_says_nothing(agent, env):
    item = {"service": "piper", "phase": "starting", "sentence": "It loads.", "elapsed": 7.0}
    agent(wait=Stream([item], [result()], pause=4))
    _, shown = at_terminal(["wait", "piper"], env)
    assert "7 s" in shown
    assert any(f"{later} s" in shown for later in (8, 9, 10, 11))


def test_more_services_than_the_terminal_has_lines_are_counted(agent, env):
    items = [{"service": f"s{i}", "phase": "starting", "sentence": ""} for i in range(40)]
    agent(wait=Stream(items, [result()]))
    _, shown = at_terminal(["wait", "piper"], env)
    assert "and 19 more" in shown
    assert "\x1b[23F" not in shown


def test_ctrl_c_while_waiting_exits_130_without_a_traceback(agent, env):
    agent(wait=Stream([{"service": "piper", "phase": "starting"}], hang=True))
    code, shown = at_terminal(["wait", "piper"], env, interrupt_after="starting")
    assert code == 130
    assert "Traceback" not in shown


def test_stopping_all_asks_a_person(agent, env):
    fake = agent(change=[result()])
    code, shown = at_terminal(["stop"], env, types="n\n")
    assert code == 8
    assert "Stop all services of this host? [y/N]" in shown
    assert "Nothing was changed." in shown
    assert fake.asked == []
    assert at_terminal(["stop"], env, types="y\n")[0] == 0
    assert fake.args("change")["verb"] == "stop"


def test_stopping_all_asks_in_the_persons_language(agent, env):
    fake = agent(change=[result()])
    code, shown = at_terminal(["stop"], env | {"LICTOR_LANG": "ru"}, types="да\n")
    assert "Остановить все сервисы" in shown
    assert (code, fake.args("change")["all"]) == (0, True)


def test_stopping_all_does_not_ask_with_yes_or_for_named_services(agent, env):
    agent(change=[result()])
    assert "?" not in at_terminal(["stop", "-y"], env)[1]
    assert "?" not in at_terminal(["stop", "piper"], env)[1]


def test_what_hurts_others_is_refused_without_a_terminal(agent, run):
    fake = agent(change=AgentError("refused", "bot needs redis.", 8, "Say -y."))
    done = run("stop", "redis")
    assert done.returncode == 8
    assert "bot needs redis." in done.stderr
    assert len(fake.asked) == 1


def test_what_hurts_others_is_asked_again_on_a_terminal_and_then_insisted_on(agent, env):
    refusal = AgentError("refused", "bot needs redis.", 8)
    fake = agent(change=lambda args: [result("redis")] if args["yes"] else refusal)
    code, shown = at_terminal(["stop", "redis"], env, types="y\n")
    assert code == 0
    assert "bot needs redis." in shown
    assert [args["yes"] for _, args in fake.asked] == [False, True]


def test_wait_sends_what_it_waits_for(agent, run):
    fake = agent(wait=[result()])
    assert run("wait", "piper", "--for", "stopped", "--timeout", "5").returncode == 0
    assert fake.args("wait") == {"names": ["piper"], "for": "stopped", "timeout": 5.0}


@pytest.mark.parametrize(
    "args",
    [
        ["wait"],
        ["wait", "piper", "--for", "lunch"],
        ["wait", "piper", "--timeout", "soon"],
        ["start", "two words"],
        ["start", "-x"],
        ["frobnicate"],
        [],
    ],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense_exits_2(run, args):
    done = run(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
