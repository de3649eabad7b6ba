"""What Lictor costs Consul, and how quickly one follows the other.

Registration of many services beside a bare client that keeps 16 calls under way; a pass over
unchanged entries beside one plain read; KV put to a running process beside a blocking query that
starts the same program; what an agent asks of Consul while nothing happens; and the switch of a
group's name in DNS. One Consul of its own (a dev server with `raft_multiplier` 1) serves all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import child
import common
import dns.message
import dns.query

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.registry import ConsulRegistry
from lictor.core.model.desired import DesiredService, DesiredState, Source
from lictor.core.model.names import ServiceKey
from lictor.core.model.registration import Register
from lictor.core.model.spec import ProbeSpec, ServiceSpec
from lictor.core.model.state import Health, Phase, ServiceState
from lictor.core.planning.registration import Owner, diff, wanted

_DEADLINE_S = 120.0
_ROUNDS = 40
_WINDOW_S = 30.0


@dataclass(frozen=True)
class Consul:
    """A Consul that was started for this run."""

    address: str
    dns: int

    def call(self, method: str, path: str, body: object = None) -> object:
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        link = http.client.HTTPConnection(host, int(port), timeout=30)
        try:
            link.request(method, f"/v1/{path}", None if body is None else json.dumps(body))
            answer = link.getresponse()
            data = answer.read()
            return json.loads(data) if answer.status == 200 and data else None
        finally:
            link.close()


@contextlib.contextmanager
def consul(folder: Path) -> Iterator[Consul]:
    ports = {name: common.free_port() for name in ("http", "server", "serf_lan", "dns")}
    config = folder / "consul.json"
    config.write_text(
        json.dumps(
            {
                "ports": {**ports, "grpc": -1, "serf_wan": -1},
                "performance": {"raft_multiplier": 1},
                "limits": {"http_max_conns_per_client": 1000},
            }
        )
    )
    argv = [common.consul_binary(), "agent", "-dev", "-node=bench", "-bind=127.0.0.1"]
    argv += ["-log-level=err", f"-config-file={config}"]
    with common.started(argv, folder / "consul.log"):
        found = Consul(f"http://127.0.0.1:{ports['http']}", ports["dns"])
        _until(lambda: _led(found), "Consul has no leader")
        yield found


def _led(found: Consul) -> bool:
    try:
        return bool(found.call("GET", "catalog/nodes"))
    except OSError:
        return False


def _until(true, what: str, limit: float = _DEADLINE_S, pause: float = 0.02) -> None:
    end = time.monotonic() + limit
    while not true():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {limit:g} s: {what}")
        time.sleep(pause)


@contextlib.contextmanager
def agent(folder: Path, address: str, services: list[str]) -> Iterator[int]:
    """Lictor over these lines of YAML, from its exec on; gives its pid."""
    folder.mkdir()
    lines = ["agent:", "  node: bench", f"  data_dir: {folder / 'data'}", "consul:"]
    lines += ["  embedded: never", f'  address: "{address}"', "web: {enabled: false}", "services:"]
    config = folder / "config.yml"
    config.write_text("\n".join([*lines, *services]) + "\n")
    config.chmod(0o600)
    with common.started([common.LICTOR, "up", "-c", config], folder / "log") as (process, _):
        yield process.pid


# --- registration ---------------------------------------------------------------------------------


def _passing(where: Consul, pattern: str) -> int:
    found = where.call("GET", "health/state/passing") or []
    return sum(bool(re.fullmatch(pattern, check["ServiceName"])) for check in found)


def registering(top: Path, where: Consul, count: int) -> list[str]:
    """Seconds from the first of ours in Consul to all of them passing; a bare client's for the same."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        port = listener.getsockname()[1]
        bodies = [
            {
                "ID": f"bare{number}",
                "Name": f"bare{number:04}",
                "Address": "127.0.0.1",
                "Port": port,
                "Checks": [
                    {"CheckID": f"bare{number}:{kind}", "TTL": "8760h", "Status": "passing"}
                    for kind in ("a", "b")
                ],
            }
            for number in range(count)
        ]
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda body: where.call("PUT", "agent/service/register", body), bodies))
        _until(lambda: _passing(where, r"bare\d+") >= 2 * count, "the bare client's are passing")
        bare = time.monotonic() - begun
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            paths = [f"agent/service/deregister/bare{number}" for number in range(count)]
            list(pool.map(lambda path: where.call("PUT", path), paths))
        lines = [
            f"  r{number:04}: {{driver: observed, port: {20000 + number}, health: {{tcp: '127.0.0.1:{port}',"
            " interval: 60s}}"
            for number in range(count)
        ]
        began = time.monotonic()
        with agent(top / "many", where.address, lines):
            _until(lambda: _passing(where, r"r\d+") > 0, "one of ours is passing", pause=0.01)
            first = time.monotonic()
            _until(lambda: _passing(where, r"r\d+") >= 2 * count, "all of ours are passing")
            done = time.monotonic()
    ours = done - first
    return [
        f"{count} services registered and passing in the catalog",
        f"{ours * 1000:.0f} (from exec: {(done - began) * 1000:.0f})",
        f"{bare * 1000:.0f}, a bare client, 16 calls at a time",
        f"{ours / bare:.2f}",
    ]


# --- a pass over what is as it should be ----------------------------------------------------------


async def _passes(where: Consul, count: int) -> tuple[list[float], list[float]]:
    owner = Owner("bench-owner", "bench")
    probe = ProbeSpec("tcp", "127.0.0.1:9", interval=600.0)
    state = ServiceState(phase=Phase.READY, health=Health.PASSING, started=1.0, ready_since=1.0)
    entries = []
    for number in range(count):
        spec = ServiceSpec(key=ServiceKey(f"p{number:04}"), driver="observed", port=9)
        spec = replace(spec, health=replace(spec.health, probe=probe))
        want = DesiredService(spec, DesiredState.RUNNING, Source.CONFIG)
        entry = wanted(want, state, owner, lambda reason: reason.code)
        assert entry is not None
        entries.append(entry)
    client = ConsulClient(where.address)
    registry = ConsulRegistry(client, "bench")
    try:
        gate = asyncio.Semaphore(16)

        async def write(one) -> None:
            async with gate:
                await registry.apply(one)

        for _ in range(3):  # an entry, and then the status of its checks
            todo = diff(entries, await registry.read(), owner)
            for kind in (Register, object):
                now = [one for one in todo if isinstance(one, kind)]
                todo = [one for one in todo if not isinstance(one, kind)]
                await asyncio.gather(*map(write, now))
        ours, bare = [], []
        async with aiohttp.ClientSession() as session:
            for _ in range(15):
                begun = time.perf_counter()
                async with session.get(f"{where.address}/v1/agent/services") as answer:
                    json.loads(await answer.read())
                bare.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                assert diff(entries, await registry.read(), owner) == []
                ours.append(time.perf_counter() - begun)
        await asyncio.gather(*map(write, diff([], await registry.read(), owner)))
    finally:
        await client.close()
    return ours, bare


def passing_over(where: Consul, count: int) -> list[str]:
    ours, bare = asyncio.run(_passes(where, count))
    mine, base = statistics.median(ours), statistics.median(bare)
    return [
        f"a pass over {count} unchanged services (services and checks read, compared, no write)",
        f"{mine * 1000:.1f}",
        f"{base * 1000:.1f}, one read of agent/services",
        f"{mine / base:.2f}",
    ]


# --- KV put to a running process ------------------------------------------------------------------


def _floor(where: Consul, program: Path, marks: child.Marks) -> list[float]:
    """A blocking query of its own that starts the program: nothing can be quicker from Python."""
    times: list[float] = []
    over = threading.Event()

    def follow() -> None:
        index = 0
        while not over.is_set():
            host, _, port = where.address.removeprefix("http://").rpartition(":")
            link = http.client.HTTPConnection(host, int(port), timeout=30)
            link.request("GET", f"/v1/kv/floor/key?index={index}&wait=5s")
            answer = link.getresponse()
            data = answer.read()
            link.close()
            if answer.status != http.HTTPStatus.OK:
                time.sleep(0.05)  # a Consul without a leader says so, and has no index
                continue
            new = int(answer.headers["X-Consul-Index"])
            if new != index and index and data:
                argv = [str(program), str(marks.path), "floor"]
                os.posix_spawn(argv[0], argv, os.environ)  # collected by whoever ends it
            index = new

    where.call("PUT", "kv/floor/key", {"n": 0})
    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.5)
    for number in range(_ROUNDS):
        before = len(marks.read())
        begun = time.monotonic()
        where.call("PUT", "kv/floor/key", {"n": number + 1})
        marks.wait(lambda _s, before=before: len(marks.starts) > before, 10)
        start = marks.starts[-1]
        times.append(start.at - begun)
        os.kill(start.pid, signal.SIGKILL)
        os.waitpid(start.pid, 0)
        time.sleep(0.1)
    over.set()
    where.call("PUT", "kv/floor/key", {"n": -1})
    thread.join()
    for start in marks.read():
        with contextlib.suppress(OSError):
            os.kill(start.pid, signal.SIGKILL)
            os.waitpid(start.pid, 0)
    return times


def following(top: Path, where: Consul, program: Path) -> list[str]:
    (top / "kv").mkdir()
    floor = _floor(where, program, child.Marks(top / "kv" / "floor"))
    marks = child.Marks(top / "kv" / "marks")
    lines = [f"  job: {{command: ['{program}', '{marks.path}', job], stop: {{pause: 0s}}}}"]
    key, times = "kv/lictor/desired/bench/job", []
    with agent(top / "kv" / "agent", where.address, lines):
        marks.wait(bool, 30)
        _until(lambda: where.call("GET", "kv/lictor/desired/bench/_lictor"), "the watch runs")
        time.sleep(1)
        for _ in range(_ROUNDS):
            pid = marks.read()[-1].pid
            where.call("PUT", key, {"state": "stopped"})
            _until(lambda pid=pid: not child.alive(pid), "the service stops", pause=0.002)
            time.sleep(0.2)
            before = len(marks.read())
            begun = time.monotonic()
            where.call("PUT", key, {"state": "running"})
            marks.wait(lambda _s, before=before: len(marks.starts) > before, 10)
            times.append(marks.starts[-1].at - begun)
    low, high = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    base, base_high = statistics.median(floor), statistics.quantiles(floor, n=20)[-1]
    return [
        "KV put → first instruction of the service, p50 (p95)",
        f"{low * 1000:.1f} ({high * 1000:.1f})",
        f"{base * 1000:.1f} ({base_high * 1000:.1f}), a blocking query and posix_spawn",
        f"{low / base:.2f}",
    ]


# --- at rest --------------------------------------------------------------------------------------


class Counting:
    """A relay to Consul that counts connections and the requests on them."""

    _LINE = re.compile(rb"(?:GET|PUT|POST|DELETE) (/v1/[^ ]*) HTTP/1\.1\r\n")

    def __init__(self, where: Consul) -> None:
        host, _, port = where.address.removeprefix("http://").rpartition(":")
        self._to = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
                threading.Thread(target=self._relay, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._relay, args=(far, near, False), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, count: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if count:
                    self.asked += self._LINE.findall(data)
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


def resting(top: Path, where: Consul, count: int) -> list[str]:
    relay = Counting(where)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        port = listener.getsockname()[1]
        lines = [
            f"  q{number:04}: {{driver: observed, port: {20000 + number}, health: {{tcp: '127.0.0.1:{port}',"
            " interval: 60s}}"
            for number in range(count)
        ]
        with agent(top / "rest", relay.address, lines):
            _until(lambda: _passing(where, r"q\d+") >= 2 * count, "all are passing")
            time.sleep(15)
            relay.asked.clear()
            time.sleep(_WINDOW_S)
            asked = list(relay.asked)
    relay.close()
    watches = {path.partition(b"?")[0] for path in asked if b"wait=" in path}
    return [
        f"requests a second to Consul at rest, {count} services ({len(watches)} open watches)",
        f"{len(asked) / _WINDOW_S:.2f}",
        "-",
        "-",
    ]


# --- a group's name -------------------------------------------------------------------------------


def switching(top: Path, where: Consul, program: Path) -> list[str]:
    """From the kill -9 of the best engine to the next one's port in the answer of Consul's DNS."""
    folder = top / "group"
    folder.mkdir()
    marks = child.Marks(folder / "marks")
    ports = {name: common.free_port() for name in ("first", "second")}
    lines = [
        f"  {name}: {{command: ['{program}', '{marks.path}', {name}, '{port}'], port: {port},"
        f" group: voice, rank: {rank}, health: {{tcp: '127.0.0.1:{port}', interval: 1s}},"
        " restart: {backoff: 60s, policy: never}}"
        for rank, (name, port) in enumerate(ports.items(), 1)
    ]

    def answer() -> set[int]:
        question = dns.message.make_query("voice.query.consul", "SRV")
        found = dns.query.udp(question, "127.0.0.1", port=where.dns, timeout=5)
        return {item.port for block in found.answer for item in block}

    times = []
    for number in range(5):
        with agent(folder / f"agent{number}", where.address, lines):
            _until(lambda: answer() == {ports["first"]}, "the best has the name")
            time.sleep(1)
            begun = time.monotonic()
            os.kill(marks.latest()["first"].pid, signal.SIGKILL)
            _until(lambda: answer() == {ports["second"]}, "the next has the name", pause=0.001)
            times.append(time.monotonic() - begun)
    low, most = statistics.median(times), max(times)
    return [
        "kill -9 of a group's best engine → the next one in DNS, median (worst of 5)",
        f"{low * 1000:.0f} ({most * 1000:.0f})",
        "-",
        "-",
    ]


def report(many: int = 500, unchanged: int = 1000) -> str:
    """The section of the benchmark page."""
    if common.consul_binary() is None:
        return "## Consul\n\nLeft out: there is no Consul program on this machine.\n"
    with common.scratch() as top:
        program = child.build(top)
        with consul(top) as where:
            rows = [
                passing_over(where, unchanged),
                registering(top, where, many),
                following(top, where, program),
                resting(top, where, many),
                switching(top, where, program),
            ]
    head = ["", "Lictor, ms or as named", "beside it, ms", "ratio"]
    return (
        "## Consul\n\nOne Consul server on the same machine; each row beside the least that could do "
        "the same. A registered service has two checks.\n\n" + common.table(head, rows) + "\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--many", type=int, default=500)
    options = parser.parse_args()
    print(report(options.many))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
