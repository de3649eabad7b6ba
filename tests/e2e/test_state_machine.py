"""A real host at random: orders, crashes, reloads, KV, holds, and agents that die, with a model.

The model is small: what each service should be, which process it is, how often it was restarted.
After every step the host must be as the model says. `tests/properties/test_agent.py` looks for
orders of events in virtual time, by the thousand; this one looks whether the real parts keep them.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.e2e.world import service
from tests.support.agent import RunningAgent, argv_of, unique, wait_until
from tests.support.children import alive, child, text_of
from tests.support.consul import ConsulServer

pytestmark = [pytest.mark.consul, pytest.mark.slow]

WORDS = ("one", "two", "off")
words = st.sampled_from(WORDS)

#: In CI the same few lives every time, at a desk new ones. No shrinking: a life takes seconds.
FEW = settings(
    max_examples=5,
    stateful_step_count=12,
    deadline=None,
    database=None,
    derandomize=os.environ.get("CI") == "true",
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Expected:
    """What the model knows of one service. `said`: its document in KV; `held`: a hold on it."""

    name: str
    usual: str
    said: str | None = None
    held: str | None = None
    pid: int | None = None
    restarts: int = 0

    @property
    def state(self) -> str:
        """What it should be."""
        return self.held or self.said or self.usual

    @property
    def runs(self) -> bool:
        return self.state == "running"


class Host(RuleBasedStateMachine):
    """One agent with three services, two of which run unless somebody says otherwise."""

    def __init__(self, consul: ConsulServer, failed: list[AssertionError]) -> None:
        super().__init__()
        self.consul = consul
        self.failed = failed
        self.model: dict[str, Expected] = {}
        self.agent_is_fresh = True

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lictor-m-"))
        self.model = {
            word: Expected(unique(word), "stopped" if word == "off" else "running")
            for word in WORDS
        }
        self.versions = dict.fromkeys(WORDS, 0)
        self.ear, self.told = unique("ear"), 0
        self.agent = RunningAgent(self._services(), consul=self.consul.http)
        self._agent_begins()

    def teardown(self) -> None:
        if hasattr(self, "agent"):
            self.agent.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # --- what may happen ------------------------------------------------------------------------

    @rule(word=words)
    def order_the_other_state(self, word: str) -> None:
        one = self.model[word]
        if one.held is None:
            verb, one.said = ("stop", "stopped") if one.runs else ("start", "running")
            self._ask("change", verb=verb, names=[one.name], wait=True, timeout=60)

    @rule(word=words)
    def order_a_restart(self, word: str) -> None:
        one = self.model[word]
        if one.held is None:
            self._runs_anew(one)
            one.said = "running"
            self._ask("change", verb="restart", names=[one.name], wait=True, timeout=60)

    @rule(word=words, other=st.integers(1, 2))
    def say_something_else_in_kv(self, word: str, other: int) -> None:
        one = self.model[word]
        states = (None, "stopped", "running")
        one.said = states[(states.index(one.said) + other) % 3]
        key = f"lictor/desired/{self.agent.node}/{one.name}"
        if one.said is None:
            assert self.consul.raw("DELETE", f"kv/{key}").status == 200
        else:
            self.consul.put_kv(key, {"state": one.said, "by": "anna"})
        self._wait_for_kv()

    @rule(word=words, state=st.sampled_from(["stopped", "running"]))
    def hold_or_release(self, word: str, state: str) -> None:
        one = self.model[word]
        if one.held is None:
            one.held = state
            self._ask("hold", names=[one.name], state=state, reason="to look at it")
        else:
            one.held = None
            self._ask("release", names=[one.name])

    @rule(word=words)
    def crash_one_that_runs(self, word: str) -> None:
        running = [one for one in self.model.values() if one.runs]
        if running:
            self._kill(running[WORDS.index(word) % len(running)])

    @precondition(lambda self: not self.agent_is_fresh)
    @rule(dying=st.sets(words))
    def the_agent_dies_and_perhaps_services_too(self, dying: set[str]) -> None:
        self.agent.kill9()
        for word in sorted(dying):
            self._kill(self.model[word])
        self.agent.start()
        self._agent_begins()

    @rule(word=words)
    def reload_with_another_definition(self, word: str) -> None:
        self.versions[word] += 1
        self.agent.configure(self._services())
        self._ask("reload")
        self._runs_anew(self.model[word])

    # --- what must be so after each step --------------------------------------------------------

    @invariant()
    def the_host_is_as_the_model_says(self) -> None:
        try:
            for word, one in self.model.items():
                self._check(word, one)
            trees = 2 * sum(one.runs for one in self.model.values())
            wait_until(lambda: len(self.agent.processes()) == trees, what="nobody else is there")
        except AssertionError as error:
            self.failed.append(error)
            raise

    def _check(self, word: str, one: Expected) -> None:
        row: dict[str, Any] = {}

        def so() -> bool:
            row.clear()
            row.update(self.agent.row(one.name))
            if not one.runs:
                return (row["desired"], row["phase"]) == ("stopped", "stopped")
            fresh = row["pid"] and self._version(row["pid"]) == self.versions[word]
            return row["phase"] == "ready" and fresh and row["restarts"] >= one.restarts

        try:
            wait_until(so)
        except AssertionError:
            raise AssertionError(f"{one} is {row}\n{self.agent.log()}") from None
        begun = self._begun(word)
        assert [pid for pid in begun if alive(pid)] == ([row["pid"]] if one.runs else [])
        assert "overlap" not in text_of(self.folder / word)
        assert row["restarts"] == one.restarts, (one, row)
        if not one.runs:
            one.pid = None
            return
        assert one.pid in {None, row["pid"]}, (one, row)
        one.pid = row["pid"]

    # --- within ---------------------------------------------------------------------------------

    def _services(self) -> dict[str, Any]:
        services = {
            one.name: service(
                (*child("alone", file=self.folder / word, seconds=0, count=self.versions[word]),),
                restart={"backoff": "100ms", "max_backoff": "500ms"},
                stop={"timeout": "300ms", "pause": "0s"},
                activation="manual" if one.usual == "stopped" else "always",
            )
            for word, one in self.model.items()
        }
        return {**services, self.ear: service(child("good"), activation="manual")}

    def _version(self, pid: int) -> int:
        argv = argv_of(pid) if alive(pid) else []
        return int(argv[argv.index("--count") + 1]) if "--count" in argv else -1

    def _begun(self, word: str) -> list[int]:
        """Every main process that this service ever had, in order."""
        lines = [line.split() for line in text_of(self.folder / word).splitlines()]
        return [int(line[1]) for line in lines if line[0] == "begin"]

    def _kill(self, one: Expected) -> None:
        pid = one.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not alive(pid), what="it is dead")
            self._runs_anew(one)

    def _runs_anew(self, one: Expected) -> None:
        """If it runs, it is to be another process from now on, which counts as a restart."""
        if one.runs:
            one.restarts += 1
            one.pid = None

    def _wait_for_kv(self) -> None:
        """Until the agent has seen all that KV says now, also what changes nothing for a moment.

        KV is watched as a whole: who knows the last word knows those before.
        """
        self.told += 1
        word = f"word {self.told}"
        key = f"lictor/desired/{self.agent.node}/{self.ear}"
        self.consul.put_kv(key, {"state": "stopped", "reason": word})
        ask = {"names": [self.ear], "verbose": True}
        wait_until(lambda: self._ask("status", **ask)[0]["why"] == word, what="it knows KV")

    def _ask(self, op: str, **args: Any) -> Any:
        self.agent_is_fresh = False
        return self.agent.ask(op, args)

    def _agent_begins(self) -> None:
        """Its orders go through KV from here on, as those of the model do."""
        if not self.agent.running:
            self.agent.start()
        wait_until(lambda: self.agent.consul_state() == "ok", what="it speaks with Consul")
        self.agent_is_fresh = True


@pytest.mark.timeout(300)
def test_whatever_happens_each_service_runs_once_or_not_at_all_as_it_should(consul: ConsulServer):
    failed: list[AssertionError] = []
    try:
        run_state_machine_as_test(lambda: Host(consul, failed), settings=FEW)
    finally:
        # No life is the same twice, of which hypothesis would tell instead of what went wrong.
        if failed:
            raise failed[0]
