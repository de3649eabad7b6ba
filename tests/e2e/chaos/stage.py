"""Doing the steps: a real agent, a real Consul, real services. It knows nothing of what should be."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.chaos import model as m
from tests.e2e.chaos.model import GROUP, Burst, Place, Scope, Step, World
from tests.support.agent import RunningAgent, wait_until
from tests.support.children import alive, free_port, text_of
from tests.support.consul import ConsulServer

PLAYER = str(Path(__file__).with_name("player.py"))
REFUSED = 8

AGENT = (m.AgentDies, m.AgentLeaves)
CONSUL = (m.ConsulFreezes, m.ConsulDies, m.ConsulReturns, m.ConsulIsEmptied)
COMMANDS = (m.Order, m.Set, m.Hold, m.Release, m.Define)
TOLD_TO_CONSUL = (m.Put, m.Delete, m.Spoil, m.TakeOut, m.Retag, m.Intrude, m.DropQuery)


class Stage:
    """Where a story is played. `folder` is the services'; `agent` is not started yet."""

    def __init__(self, consul: ConsulServer, folder: Path, world: World) -> None:
        self.consul = consul
        self.folder = folder
        self.ports = {name: free_port() for name in world.config}
        self.web = free_port()
        sections = {"web": {"port": self.web}}
        self.agent = RunningAgent(self._section(world), consul=consul.http, sections=sections)
        self.strangers: dict[tuple[Place, str], dict[str, Any]] = {}
        self.deaths = 0  # of the agent

    def play(self, burst: Burst, before: World, then: World) -> None:
        """Do all steps of a burst: at once, but for those that another one would make void."""
        first = [step for step in burst if _goes_first(step, burst)]
        rest = [step for step in burst if step not in first]
        for part in (first, rest):
            deeds = [
                partial(self._do, step, before) for step in part if not isinstance(step, m.Define)
            ]
            if any(isinstance(step, m.Define) for step in part):
                self.agent.configure(self._section(then))
                deeds.append(self._reload)
            at_once(deeds)

    # --- looking ----------------------------------------------------------------------------------

    def marks(self) -> dict[str, list[int]]:
        """Every process that each service ever had, in order."""
        found: dict[str, list[int]] = {name: [] for name in self.ports}
        for line in text_of(self.folder / "marks").splitlines():
            word, name, pid = line.split()
            assert word == "began", f"two processes of {name} at once"
            found[name].append(int(pid))
        return found

    def journal(self) -> list[dict[str, Any]]:
        """The whole journal, the oldest first."""
        rows: list[dict[str, Any]] = self.agent.cli("events", "-n", "1000", "-o", "json").json
        return rows

    # --- doing ------------------------------------------------------------------------------------

    def _do(self, step: Step, before: World) -> None:
        node = self.agent.node
        match step:
            case m.Order(verb, name):
                code = REFUSED if step.refused(before) else 0
                self._command(verb, name, expect=code)
            case m.Set(name, tone):
                self._command("set", name, f"tone={tone}")
            case m.Hold(name, state):
                self._command("hold", name, "--state", state, "--reason", "to look at it")
            case m.Release(name):
                self._command("release", name)
            case m.Put(scope, name, document):
                self.consul.put_kv(self._key(scope, name), _text(document))
            case m.Spoil(scope, name, text):
                self.consul.put_kv(self._key(scope, name), text)
            case m.Delete(scope, name):
                assert self.consul.raw("DELETE", f"kv/{self._key(scope, name)}").status == 200
            case m.Kill(name):
                self._kill(self.marks()[name][-1])
            case m.Sicken(name):
                (self.folder / f"{name}.sick").touch()
            case m.Heal(name):
                (self.folder / f"{name}.sick").unlink()
            case m.TakeOut(name, "agent", member):
                self._put(f"agent/service/deregister/{self._id(name, member)}")
            case m.TakeOut(name, _, member):
                entry = {"Node": self.consul.node, "ServiceID": self._id(name, member)}
                self._put("catalog/deregister", entry)
            case m.Retag(name, member):
                self._retag(self._id(name, member))
            case m.DropQuery():
                for query in self.consul.raw("GET", "query").json:
                    assert self.consul.raw("DELETE", f"query/{query['ID']}").status == 200
            case m.Quiet(seconds):
                time.sleep(seconds)
            case m.Intrude(name, place):
                self._intrude(place, name, f"lictor:{node}:{name}")
            case m.AgentDies():
                self.deaths += 1
                self.agent.kill9()
                self.agent.start()
            case m.AgentLeaves():
                assert self.agent.down("--keep").code == 0
                self.agent.start()
            case m.ConsulFreezes():
                self.consul.freeze()
            case m.ConsulDies():
                self.consul.kill()
            case m.ConsulReturns():
                self._consul_returns()
            case m.ConsulIsEmptied():
                self.strangers.clear()
                self.consul.restart(wipe=True)

    def _command(self, *words: str, expect: int = 0) -> None:
        said = self.agent.cli(*words)
        assert said.code == expect, (words, said)

    def _reload(self) -> None:
        self._command("reload")

    def _kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), what="it is dead")

    def _consul_returns(self) -> None:
        if self.consul.running:
            self.consul.thaw()
        else:
            self.consul.restart()

    def _put(self, path: str, body: Any = None) -> None:
        answer = self.consul.raw("PUT", path, body)
        assert answer.status == 200, (path, answer)

    def _retag(self, service_id: str) -> None:
        entry = self.consul.raw("GET", f"agent/service/{service_id}").json
        taken = {key: entry[key] for key in ("ID", "Port", "Address", "Meta")}
        self._put(
            "agent/service/register", {**taken, "Name": entry["Service"], "Tags": ["by-hand"]}
        )

    def _intrude(self, place: Place, name: str, ours: str) -> None:
        entry = {"Service": name, "Tags": ["theirs"], "Address": "127.0.0.9", "Port": 9}
        if place == "agent":  # the id of ours, and a little more
            entry = {"ID": f"{ours}-theirs", "Meta": {"lictor-owner": "somebody"}, **entry}
            body = {key: value for key, value in entry.items() if key != "Service"}
            self._put("agent/service/register", {**body, "Name": name})
        else:  # our very id, on a node of theirs
            entry = {"ID": ours, "Meta": {}, **entry}
            where = {"Node": "elsewhere", "Address": "127.0.0.9", "SkipNodeUpdate": True}
            self._put("catalog/register", {**where, "Service": entry})
        self.strangers[place, name] = entry

    def _id(self, name: str, member: bool) -> str:
        return self.agent.entry_id(f"{GROUP}:{name}" if member else name)

    def _key(self, scope: Scope, name: str) -> str:
        return f"lictor/desired/{self.agent.node if scope == 'node' else scope}/{name}"

    def _section(self, world: World) -> dict[str, Any]:
        return {name: self._service(name, it) for name, it in world.config.items()}

    def _service(self, name: str, it: m.Definition) -> dict[str, Any]:
        port = self.ports[name] if it.served else 0
        argv = [sys.executable, "-S", "-E", PLAYER, name, str(self.folder), str(port)]
        made: dict[str, Any] = {
            "command": [*argv, f"v{it.version}", "{param.tone}"],
            "params": {"tone": {"default": "low", "choices": ["low", "high"]}},
            "activation": "always" if it.usual == "running" else "manual",
            "tags": list(it.tags),
            "restart": {"backoff": "200ms", "max_backoff": "1s"},
            "stop": {"timeout": "5s", "pause": "0s"},
        }
        if it.served:
            made["port"] = port
            health = {"interval": "1s", "timeout": "2s", "failures": 2, "on_unhealthy": "ignore"}
            made["health"] = {"http": "/", "startup": "30s", **health}
        if it.rank:
            made |= {"group": GROUP, "rank": it.rank}
        return made


def at_once(deeds: list[Callable[[], None]]) -> None:
    """Do all of them at the same time; whatever fails is raised."""
    if deeds:
        with ThreadPoolExecutor(len(deeds)) as hands:
            for done in [hands.submit(deed) for deed in deeds]:
                done.result()


def _goes_first(step: Step, burst: Burst) -> bool:
    """Whether it needs what a great step of this burst takes away."""
    taken: set[type[Step]] = set()
    for great in burst:
        if isinstance(great, (*AGENT, m.ConsulIsEmptied)):  # an order is safe once it was answered
            taken.update(COMMANDS)
        if isinstance(great, CONSUL):
            taken.update(TOLD_TO_CONSUL)
    return isinstance(step, tuple(taken))


def _text(document: m.Document) -> dict[str, Any]:
    said: dict[str, Any] = {"by": "anna"}
    if document.state is not None:
        said["state"] = document.state
    if document.tone is not None:
        said["params"] = {"tone": document.tone}
    return said
