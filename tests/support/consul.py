"""A real Consul server for the tests: one process, ports of its own, faults on demand.

It exists because the failures that matter (a state loss, a frozen server, a leader not yet elected)
cannot be imagined well enough to be mocked. It never uses Consul's usual ports, and it ends only
the process that it started.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_START_DEADLINE_S = 40.0
_CHOSEN = range(20000, 21000)  # `agent.port_range`
_GIVEN: set[int] = set()


def find_consul() -> str | None:
    """The binary: `$CONSUL_BIN`, then PATH, then `.cache/bin/consul` of the repository."""
    named = os.environ.get("CONSUL_BIN")
    if named:
        return named if os.access(named, os.X_OK) else None
    found = shutil.which("consul")
    if found:
        return found
    cached = _ROOT / ".cache" / "bin" / "consul"
    return str(cached) if os.access(cached, os.X_OK) else None


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody holds for TCP or UDP now, outside the ephemeral range.

    Outside of it, because between this call and the server's bind any outgoing connection of the
    machine may be given an ephemeral port. Outside of the range from which agents choose, and none
    twice in one run: who got the first may not have bound it yet, or may be about to bind it again.
    Each worker of pytest-xdist has its own share of the numbers for that.
    """
    share, shares = _share()
    ports: list[int] = []
    candidate = 12000 + (os.getpid() * 37 + time.monotonic_ns() // 1000) % 18000
    while len(ports) < count:
        candidate = candidate + 1 if candidate < 32000 else 12000
        ours = candidate % shares == share and candidate not in _GIVEN
        if ours and candidate not in _CHOSEN and _is_free(candidate):
            _GIVEN.add(candidate)
            ports.append(candidate)
    return ports


def chosen_ports() -> str:
    """From which ports agents of this worker choose: two that start at once take the same one."""
    share, shares = _share()
    width = len(_CHOSEN) // shares
    first = _CHOSEN.start + share * width
    return f"{first}-{first + width - 1}"


def _share() -> tuple[int, int]:
    """Which worker this process is, and of how many."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    count = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    return int(worker) % int(count), int(count)


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of `raw`: `json` is None where the body is no JSON."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def index(self) -> int:
        return int(self.headers.get("x-consul-index", "0"))


@dataclass
class ConsulServer:
    """One persistent single server. `acl` turns ACLs on with default policy deny and `master`.

    `address` is the one of loopback that it binds and serves.
    """

    binary: str
    acl: bool = False
    node: str = "test-node"
    address: str = "127.0.0.1"
    master: str = "5b6dbb3f-0000-4000-8000-00000000000a"
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="lictor-consul-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._pick_ports()

    def _pick_ports(self) -> None:
        names = ("http", "dns", "serf_lan", "serf_wan", "server")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))

    @property
    def http(self) -> str:
        """The address for clients, with its scheme."""
        return f"http://{self.address}:{self.ports['http']}"

    @property
    def http_port(self) -> int:
        return self.ports["http"]

    @property
    def dns_port(self) -> int:
        return self.ports["dns"]

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> ConsulServer:
        """Start it, and return when it has a leader and took a KV write."""
        for attempt in range(3):
            self._spawn()
            if self._wait_usable():
                return self
            log = self.log()
            self._end(signal.SIGKILL)
            if "address already in use" not in log or attempt == 2:
                raise RuntimeError(f"Consul did not start:\n{log[-3000:]}")
            self._pick_ports()
        raise AssertionError

    def log(self) -> str:
        path = self.dir / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """SIGKILL: nothing is said to anybody; the state on disk stays."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help within 10 s."""
        self.thaw()
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: connections are still accepted by the kernel, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        # The signal is on its way: some thread may still answer for a moment.
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not self._stopped():
            time.sleep(0.005)

    def _stopped(self) -> bool:
        tasks = list(Path(f"/proc/{self.pid}/task").glob("*/stat"))
        return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)

    def thaw(self) -> None:
        if self.running:
            os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, wipe: bool = False) -> None:
        """Kill and start again on the same ports; `wipe`: as if its disk had been lost."""
        self.kill()
        if wipe:
            shutil.rmtree(self.dir / "data", ignore_errors=True)
        self._spawn()
        if not self._wait_usable():
            raise RuntimeError(f"Consul did not come back:\n{self.log()[-3000:]}")

    def close(self) -> None:
        """Stop it and remove what it left on disk."""
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def raw(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = None,
        *,
        timeout: float = 15.0,
    ) -> Answer:
        """One plain request, past all of Lictor's code. `path` may lack its leading `/v1/`.

        `body`: None, bytes and str are sent as they are, anything else as JSON. With `acl` on and
        no token given, the master token is used; `token=""` sends none.
        """
        if token is None and self.acl:
            token = self.master
        headers = {"X-Consul-Token": token} if token else {}
        if isinstance(body, str):
            body = body.encode()
        elif body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        full = path if path.startswith("/") else f"/v1/{path}"
        connection = http.client.HTTPConnection(self.address, self.http_port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, full, body, headers)
            response = connection.getresponse()
            read = response.read()
            lowered = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, lowered, read)

    def put_kv(self, key: str, value: Any) -> None:
        """Write one key, as an operator would with `consul kv put`."""
        answer = self.raw("PUT", f"kv/{key}", value)
        assert answer.json is True, answer

    def get_kv(self, key: str) -> str | None:
        """The text of one key; None when there is none."""
        answer = self.raw("GET", f"kv/{key}?raw")
        return answer.body.decode() if answer.status == 200 else None

    def understood(self) -> dict[str, Any]:
        """Every check as Consul's agent wrote it to its disk, by check id.

        The API of 1.8.7 leaves the definition of a check empty, so this is where to see whether
        Consul understood what it was sent. Times are nanoseconds.
        """
        while True:
            paths = (path for path in (self.dir / "data/checks").glob("*") if path.is_file())
            try:
                # What ends in .tmp is being written, and is renamed at any moment.
                found = [json.loads(path.read_text()) for path in paths if path.suffix != ".tmp"]
            except FileNotFoundError:
                continue  # deregistered since it was listed
            return {entry["Check"]["CheckID"]: entry["ChkType"] for entry in found}

    def token_for(self, rules: str) -> str:
        """A new token (its secret) that has exactly these rules. Needs `acl`."""
        name = f"p{time.monotonic_ns()}"
        policy = self.raw("PUT", "acl/policy", {"Name": name, "Rules": rules})
        assert policy.status == 200, policy
        token = self.raw("PUT", "acl/token", {"Policies": [{"Name": name}]})
        assert token.status == 200, token
        return str(token.json["SecretID"])

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "node_name": self.node,
            "datacenter": "dc1",
            "data_dir": str(self.dir / "data"),
            "server": True,
            "bootstrap_expect": 1,
            "bind_addr": self.address,
            "client_addr": self.address,
            "ports": {**self.ports, "grpc": -1},
            "performance": {"raft_multiplier": 1},
            "dns_config": {"allow_stale": True},
            "disable_update_check": True,
            "disable_remote_exec": True,
            "leave_on_terminate": False,
            "log_level": "INFO",
        }
        if self.acl:
            config["acl"] = {
                "enabled": True,
                "default_policy": "deny",
                "enable_token_persistence": True,
                "tokens": {"master": self.master, "agent": self.master},
            }
        return {**config, **self.extra}

    def _spawn(self) -> None:
        (self.dir / "data").mkdir(parents=True, exist_ok=True)
        (self.dir / "config.json").write_text(json.dumps(self._config()))
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.dir), "GOMAXPROCS": "2"}
        with (self.dir / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self.binary, "agent", f"-config-file={self.dir / 'config.json'}"],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=self.dir,
            )

    def _wait_usable(self) -> bool:
        deadline = time.monotonic() + _START_DEADLINE_S
        while time.monotonic() < deadline and self.running:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self._usable():
                    return True
            time.sleep(0.05)
        return False

    def _usable(self) -> bool:
        leader = self.raw("GET", "status/leader", timeout=3)
        if leader.status != 200 or not leader.json:
            return False
        if self.raw("PUT", "kv/_harness", "up", timeout=3).json is not True:
            return False
        # The agent registers itself a moment after the leader is known; tests count on its node.
        nodes = self.raw("GET", "catalog/nodes", timeout=3).json or []
        return any(entry["Node"] == self.node for entry in nodes)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
