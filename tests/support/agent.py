"""A real agent as a user runs it: a config.yml in a folder of its own, `lictor up`, and commands.

It is here so that tests from outside say what they mean in a line or two. It speaks to the agent
only as people do (the command line, signals) and over the socket that the command line uses; it
never imports the agent. Whatever a test does, `close` ends every process that carries this agent's
mark, and no other.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import yaml

from tests.support.children import alive, marked, text_of
from tests.support.consul import chosen_ports

T = TypeVar("T")

#: Seconds that anything may take on a busy machine before a test gives up.
PATIENCE = 30.0

_NUMBERS = count(1)


class Result(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def unique(word: str) -> str:
    """A name that no other test of this or a parallel run uses."""
    return f"{word}-{os.getpid() % 100_000}-{next(_NUMBERS)}"


def wait_until(truth: Callable[[], T], *, within: float = PATIENCE, what: str = "") -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + within
    while True:
        found = truth()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within:g} s: {what or truth} (last: {found!r})")
        time.sleep(0.03)


class RunningAgent:
    """One agent on a data_dir of its own. `services` is the section of config.yml.

    `consul` is the address of somebody's Consul; None leaves the section out. `sections` replace or
    add whole sections. `env` is added to a small environment without any `CONSUL_*` or `LICTOR_*`.
    `under` is a command that runs the agent (`unshare ...`): then `pid` is that command's.
    `options` go to `lictor up`.
    Use it as a context manager, or call `start` and `close`.
    """

    def __init__(
        self,
        services: Mapping[str, Any],
        *,
        consul: str | None = None,
        node: str | None = None,
        agent: Mapping[str, Any] | None = None,
        sections: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        under: Iterable[str] = (),
        options: Iterable[str] = (),
    ) -> None:
        self._under = list(under)
        self._options = list(options)
        # Short: a Unix socket's path has at most 107 bytes.
        self.dir = Path(tempfile.mkdtemp(prefix="lictor-e-", dir="/tmp"))
        self.data_dir = self.dir / "d"
        self.config = self.dir / "config.yml"
        self.node = node or unique("node")
        self._agent = dict(agent or {})
        self._sections: dict[str, Any] = {"web": {"port": 0}, **(sections or {})}
        if consul is not None:
            self._sections.setdefault("consul", {"address": consul})
        home = {"HOME": str(self.dir), "PATH": os.environ.get("PATH", os.defpath)}
        self.env = {**home, "LC_ALL": "C.UTF-8", **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._id = ""
        self.configure(services)

    def configure(self, services: Mapping[str, Any], **sections: Any) -> None:
        """Write config.yml; the running agent does not notice before a reload."""
        own = {"node": self.node, "data_dir": str(self.data_dir), "port_range": chosen_ports()}
        agent = {**own, **self._agent}
        self._sections.update(sections)
        whole = {"agent": agent, **self._sections, "services": dict(services)}
        self.config.write_text(yaml.safe_dump(whole, sort_keys=False, width=1000))

    def run_under(self, *command: str) -> None:
        """The next `start` is under this command (none: as it is)."""
        self._under = list(command)

    # --- the agent itself -----------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """`lictor up`, and wait until it answers."""
        with self.stderr.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(*self._under, sys.executable, "-m", "lictor", "up"),
                    *("-c", str(self.config), *self._options),
                ],
                env=self.env,
                cwd=self.dir,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        wait_until(lambda: self._answers() or not self.running, what="the agent answers")
        assert self.running, f"the agent ended at once:\n{self.log()}"
        return self

    @property
    def stderr(self) -> Path:
        return self.dir / "stderr"

    def log(self) -> str:
        """What the agent itself has said, the lines included that it gathers for a moment."""
        if self.running:
            time.sleep(0.1)
        return text_of(self.stderr)

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def id(self) -> str:
        """The uuid of this installation: the owner in Consul, the mark of its processes."""
        if not self._id:
            self._id = text_of(self.data_dir / "agent-id").strip()
        return self._id

    def entry_id(self, service: str) -> str:
        """The id of a service's entry in Consul."""
        return f"lictor:{self.node}:{service}"

    def processes(self) -> list[int]:
        """Every living process of this agent's services."""
        return marked(self.id) if self.id else []

    def kill9(self) -> None:
        """The agent is gone from one moment to the next; nobody is told."""
        self.signal(signal.SIGKILL)
        self.wait_exit()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_exit(self) -> int:
        """The agent's exit status."""
        assert self._process is not None, "not started"
        return self._process.wait(PATIENCE)

    def down(self, *options: str) -> Result:
        """`lictor down`, and wait for the process."""
        result = self.cli("down", *options)
        if result.code == 0 and self._process is not None:
            self.wait_exit()
        return result

    # --- asking it ------------------------------------------------------------------------------

    def command(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command and do not wait for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "lictor", *args],
            env={**self.env, "LICTOR_DATA_DIR": str(self.data_dir), **(env or {})},
            cwd=self.dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cli(
        self, *args: str, env: Mapping[str, str] | None = None, timeout: float = 60.0
    ) -> Result:
        """Run one command to its end, away from any terminal."""
        with self.command(*args, env=env) as running:
            try:
                out, err = running.communicate(timeout=timeout)
            except BaseException:
                running.kill()
                raise
        return Result(running.returncode, out, err)

    def status(self, *names: str) -> list[dict[str, Any]]:
        """The rows of `lictor status -o json`, without the price of a process."""
        return list(self.ask("status", {"names": list(names)}))

    def row(self, name: str) -> dict[str, Any]:
        """One service's row; `name` may name an instance."""
        return self.status(name)[0]

    def service_pid(self, name: str) -> int:
        pid = self.row(name)["pid"]
        assert isinstance(pid, int), self.row(name)
        return pid

    def wait_phase(self, name: str, *phases: str, within: float = PATIENCE) -> dict[str, Any]:
        """The row of a service as soon as it is in one of the phases."""
        last: dict[str, Any] = {}

        def there() -> bool:
            last.clear()
            last.update(self.row(name))
            return last["phase"] in phases

        try:
            wait_until(there, within=within)
        except AssertionError:
            raise AssertionError(f"{name} did not become {phases}: {last}\n{self.log()}") from None
        return last

    def wait_ready(self, *names: str, within: float = PATIENCE) -> None:
        for name in names:
            self.wait_phase(name, "ready", within=within)

    def consul_state(self) -> str:
        """`ok`, or the code of what is wrong with Consul."""
        return str(self.ask("overview")["consul"]["state"])

    def ask(self, op: str, args: Mapping[str, object] | None = None) -> Any:
        """One question on the agent's socket."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE)
            line.connect(str(self.data_dir / "lictor.sock"))
            line.sendall(json.dumps({"op": op, "args": dict(args or {})}).encode() + b"\n")
            with line.makefile("rb") as answers:
                for answer in answers:
                    message = json.loads(answer)
                    if "item" not in message:
                        assert "ok" in message, message
                        return message["ok"]
        raise AssertionError("the agent hung up")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.data_dir / "lictor.sock"))
            except OSError:
                return False
        return True

    # --- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """End the agent and everything that carries its mark; remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._process is not None:
            self._process.wait(PATIENCE)
        self._end_detached()
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            _kill(left)
            time.sleep(0.02)
        # Shown by pytest where the test failed, and only there.
        print(f"--- what the agent {self.node} said ---\n{self.log()}")  # noqa: T201
        shutil.rmtree(self.dir, ignore_errors=True)
        assert not left, f"processes that cannot be ended: {left}"

    def _end_detached(self) -> None:
        """An agent of `up -d` is nobody's child: known by its lock and by its command line."""
        text = text_of(self.data_dir / "lock").strip()
        if not text.isdigit():
            return
        pid = int(text)
        with contextlib.suppress(OSError):
            if str(self.config).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                _kill([pid])
                wait_until(lambda: not alive(pid), within=10)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def argv_of(pid: int) -> list[str]:
    """The command line of a living process; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
