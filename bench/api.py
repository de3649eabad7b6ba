"""`GET /supervisor/status` of 100 services: open-loop latency, and speed beside a bare FastAPI app.

The bare application sends the very bytes that the agent sent, from the same server program with the
same settings, and checks no credential: what lies between the two is the whole price of signing in,
of rights, borders and figures that are at most a second old. Requests come at fixed times whether
or not the last one was answered (open loop), so a stall is not hidden by a client that waits. CPU for
each request is what a busy neighbour on the machine changes least.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import common
import viewers

_RATE = 200  # requests a second
_SECONDS = 15.0
_FULL = 5.0  # seconds of full speed
_CLIENTS = 16  # connections at full speed

_BARE = """
import asyncio, socket, sys
import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
import uvloop

content = open(sys.argv[1], "rb").read()
app = FastAPI()

@app.get("/supervisor/status")
async def status():
    return Response(content, media_type="application/json")

listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=512)
config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off",
                        server_header=False, date_header=False)
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(uvicorn.Server(config).serve(sockets=[listener]))
"""


def report(count: int = 100) -> str:
    with common.scratch() as folder, _agent(folder, count) as (url, token, pid):
        content = asyncio.run(_content(url, token))
        idle = viewers.report(url, token, lambda: viewers.cpu_of(pid))
        file, script = folder / "status.json", folder / "bare.py"
        file.write_bytes(content)
        script.write_text(_BARE)
        open_loop = asyncio.run(_open_loop(url, token))
        with _bare(script, file) as (bare, bare_pid):
            bare_open = asyncio.run(_open_loop(bare, ""))
            # In turns: another program on the machine then disturbs both.
            ours, theirs = [], []
            for _ in range(3):
                ours.append(asyncio.run(_full_speed(url, token, pid)))
                theirs.append(asyncio.run(_full_speed(bare, "", bare_pid)))
    rows = [
        _row("Lictor, bearer token", open_loop, ours, theirs),
        _row("bare FastAPI, the same bytes", bare_open, theirs, theirs),
    ]
    head = [
        *("", f"p50 ms at {_RATE}/s", f"p99 ms at {_RATE}/s", "worst ms", "failed"),
        *(f"requests/s, {_CLIENTS} connections", "ratio", "CPU ms a request", "ratio"),
    ]
    return (
        f"## HTTP: status of {count} services\n\n`GET /supervisor/status`, {len(content) // 1024} "
        f"KiB each. {_RATE} requests a second for {_SECONDS:g} s, sent when they are due; then as "
        f"fast as it goes. The client shares the machine.\n\n" + common.table(head, rows) + "\n"
        f"\n{idle}"
    )


_Speed = tuple[float, float]  # requests a second, and seconds of the server's CPU for each


def _row(
    title: str, times: list[float | None], ours: list[_Speed], theirs: list[_Speed]
) -> list[str]:
    good = [one for one in times if one is not None]
    cuts = statistics.quantiles(good, n=100)
    speed, cpu = (statistics.median(column) for column in zip(*ours, strict=True))
    bare_speed, bare_cpu = (statistics.median(column) for column in zip(*theirs, strict=True))
    return [
        title,
        *(f"{value * 1000:.1f}" for value in (cuts[49], cuts[98], max(good))),
        str(len(times) - len(good)),
        *(f"{speed:.0f}", f"{speed / bare_speed:.2f}"),
        *(f"{cpu * 1000:.3f}", f"{cpu / bare_cpu:.2f}"),
    ]


@contextlib.contextmanager
def _agent(folder: Path, count: int) -> Iterator[tuple[str, str, int]]:
    port = common.free_port()
    config = common.agent_config(folder, [["sleep", "infinity"]] * count, None)
    text = config.read_text().replace("  enabled: false\n", f"  port: {port}\n")
    config.write_text(text)
    log = folder / "log"
    url = f"http://127.0.0.1:{port}"
    with common.started([common.LICTOR, "up", "-c", config], log) as (process, _):
        token = asyncio.run(_signed_in(url, folder / "data" / "admin-password", process))
        if token is None:
            raise common.failed(process, log, "the agent does not answer")
        yield url, token, process.pid


async def _signed_in(url: str, secret: Path, process: subprocess.Popen[bytes]) -> str | None:
    end = time.monotonic() + 60
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(OSError, aiohttp.ClientError):
                password = await asyncio.to_thread(secret.read_text)
                body = {"username": "admin", "password": password.strip()}
                async with session.post(f"{url}/admin/auth/login", json=body) as answer:
                    return str((await answer.json())["access_token"])
            await asyncio.sleep(0.1)
    return None


@contextlib.contextmanager
def _bare(script: Path, file: Path) -> Iterator[tuple[str, int]]:
    port = common.free_port()
    process = subprocess.Popen([sys.executable, str(script), str(file), str(port)])
    try:
        asyncio.run(_answers(f"http://127.0.0.1:{port}"))
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(10)


async def _answers(url: str) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError, aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(f"{url}/supervisor/status"):
                return
        await asyncio.sleep(0.1)
    raise RuntimeError("the bare application does not answer")


async def _content(url: str, token: str) -> bytes:
    await asyncio.sleep(3.0)  # all services are there, and the first figures
    async with _session(url, token) as session, session.get("/supervisor/status") as answer:
        content = await answer.read()
        json.loads(content)
        return content


def _session(url: str, token: str) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(url, headers=headers, connector=connector)


async def _open_loop(url: str, token: str) -> list[float | None]:
    times: list[float | None] = []
    loop = asyncio.get_running_loop()
    async with _session(url, token) as session:

        async def one(due: float) -> None:
            try:
                async with session.get("/supervisor/status") as answer:
                    await answer.read()
                    good = answer.status == 200
            except (aiohttp.ClientError, OSError):
                good = False
            times.append(loop.time() - due if good else None)

        begun = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(_RATE * _SECONDS)):
                due = begun + number / _RATE
                await asyncio.sleep(max(0.0, due - loop.time()))
                group.create_task(one(due))
    return times


async def _full_speed(url: str, token: str, pid: int) -> _Speed:
    loop = asyncio.get_running_loop()
    async with _session(url, token) as session:
        end, done, before = loop.time() + _FULL, 0, viewers.cpu_of(pid)

        async def client() -> None:
            nonlocal done
            while loop.time() < end:
                async with session.get("/supervisor/status") as answer:
                    await answer.read()
                    assert answer.status == 200
                done += 1

        await asyncio.gather(*(client() for _ in range(_CLIENTS)))
        return done / _FULL, (viewers.cpu_of(pid) - before) / done


if __name__ == "__main__":
    print(report())
