"""`lictor status --all-nodes` and verbs with `--node`, as a person sees them."""

from __future__ import annotations

import json

from tests.cli.fake_agent import row

GONE = {"reason": "node.gone", "reason_params": {"node": "b", "age": 300}}
NODES = [
    {"node": "a", "state": "running", "services": 1, "sentence": ""},
    {"node": "b", "state": "gone", "services": 1, "sentence": "Gone.", **GONE},
    {"node": "c", "state": "running", "services": 0, "sentence": ""},
]


def rows() -> list[dict]:
    return [row("piper", node="a"), row("piper", "unknown", node="b", sentence="Gone.", **GONE)]


def test_the_table_has_the_node_first_and_tells_of_nodes_beside_it(agent, run):
    agent(nodes={"nodes": NODES, "services": rows()})
    done = run("status", "--all-nodes")
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["NODE", "SERVICE", "PHASE"]
    assert [line.split()[:2] for line in lines[1:]] == [["a", "piper"], ["b", "piper"]]
    assert "Gone." in done.stderr
    assert "c" in done.stderr.split()


def test_json_is_the_list_of_services_and_the_exit_code_is_that_of_status(agent, run):
    agent(nodes={"nodes": NODES, "services": rows()})
    done = run("status", "--all-nodes", "-o", "json")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, rows(), "")
    assert run("status", "piper", "--all-nodes").returncode == 3  # one is not known to run


def test_a_name_that_no_node_has_is_exit_4_and_watching_all_nodes_is_exit_2(agent, run):
    agent(nodes={"nodes": NODES, "services": []})
    assert run("status", "nobody", "--all-nodes").returncode == 4
    assert run("status", "--all-nodes", "--watch").returncode == 2


def test_an_agent_that_is_gone_is_told_in_the_persons_language(agent, run):
    agent(nodes={"nodes": NODES, "services": rows()})
    for language, word in (("ru", "пропал"), ("zh", "已消失")):
        done = run("status", "--all-nodes", env={"LICTOR_LANG": language})
        assert word in done.stdout
        assert word in done.stderr


def test_a_verb_for_another_node_asks_for_it_and_shows_where(agent, run):
    answer = [{"service": "piper", "node": "b", "result": "done", "sentence": "Ready."}]
    fake = agent(change=answer)
    done = run("stop", "piper", "--node", "b")
    assert done.stdout.splitlines()[0].split()[:2] == ["NODE", "SERVICE"]
    assert done.stdout.splitlines()[1].split()[:2] == ["b", "piper"]
    assert fake.asked[-1][1]["node"] == "b"
