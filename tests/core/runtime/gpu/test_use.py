"""Who is busy: by connections, by the card's own figures, by what the service says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from lictor.core.model.gpu import Gpu, GpuProcess, Inventory
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.runtime.gpu import use
from lictor.core.runtime.gpu.use import UseWatch, works
from tests.support.children import free_port

KEY = ServiceKey("vllm")


def spec(port: int | None, **later) -> ServiceSpec:
    return ServiceSpec(key=KEY, port=port, later=later)


async def idle_since(service: ServiceSpec, watch: UseWatch, now: float) -> float | None:
    await watch.look([service], {KEY: {7}}, Inventory(), now)
    return watch.idle_since.get(KEY)


@contextlib.asynccontextmanager
async def says(figures: str, status: str = "200 OK") -> AsyncIterator[int]:
    """A service whose /metrics has this text; gives its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        assert asked.startswith(b"GET /metrics "), asked
        writer.write(f"HTTP/1.0 {status}\r\n\r\n{figures}".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_an_open_connection_is_use_and_idle_counts_from_its_end():
    with socket.create_server(("127.0.0.1", 0)) as server:
        service, watch = spec(server.getsockname()[1]), UseWatch()
        assert await idle_since(service, watch, 10.0) == 10.0
        assert await idle_since(service, watch, 20.0) == 10.0
        with socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            assert await idle_since(service, watch, 30.0) is None
            accepted.close()
            client.close()
        assert await idle_since(service, watch, 40.0) == 40.0


@pytest.mark.parametrize(
    ("looks", "idle"),
    [
        ([0], True),
        ([1, 0], True),  # a health check, over a moment later
        ([1, 1], False),
        ([1, OSError("no netlink")], False),
    ],
)
async def test_a_check_that_is_open_just_now_is_no_use(monkeypatch, looks, idle):
    left = list(looks)

    def counted(ports):
        found = left.pop(0)
        if isinstance(found, OSError):
            raise found
        return dict.fromkeys(ports, found)

    monkeypatch.setattr(use, "connections", counted)
    found = await idle_since(spec(5000), UseWatch(), 5.0)
    assert (found is not None) == idle
    assert left == []


async def test_whoever_works_on_the_card_is_busy_without_a_second_look(monkeypatch):
    asked = []
    monkeypatch.setattr(use, "connections", lambda ports: asked.append(ports) or {5000: 1})
    watch = UseWatch()
    await watch.look([spec(5000)], {KEY: {7}}, card(90, GpuProcess(7, 1, busy=40)), 5.0)
    assert watch.idle_since == {}
    assert len([ports for ports in asked if ports]) == 0


async def test_requests_that_run_or_wait_are_use():
    for text, idle in (
        ('vllm:num_requests_running{model_name="m"} 0.0\n', True),
        ('# HELP x\nvllm:num_requests_running{model_name="m"} 2.0\n', False),
        ('vllm:num_requests_running{a="b"} 0.0\nvllm:num_requests_waiting{a="b"} 1.0\n', False),
        ("something_else 5\n", True),
    ):
        async with says(text) as port:
            found = await idle_since(spec(port, metrics="/metrics"), UseWatch(), 5.0)
        assert (found is not None) == idle, text


async def test_one_that_does_not_say_is_busy():
    async with says("", status="500 Oh") as port:
        assert await idle_since(spec(port, metrics="/metrics"), UseWatch(), 5.0) is None
    assert await idle_since(spec(free_port(), metrics="/metrics"), UseWatch(), 5.0) is None


async def test_without_a_port_the_card_decides():
    assert await idle_since(spec(None), UseWatch(), 5.0) == 5.0


def card(utilization: int, *processes: GpuProcess) -> Inventory:
    return Inventory((Gpu("G", 0, utilization=utilization, processes=processes),))


def test_work_on_the_card_is_use_and_that_of_others_is_not():
    assert works({7}, card(90, GpuProcess(7, 1, busy=40), GpuProcess(8, 1, busy=0)))
    assert not works({8}, card(90, GpuProcess(7, 1, busy=40), GpuProcess(8, 1, busy=0)))


def test_where_nobody_says_whose_work_it_is_everybody_there_counts_as_busy():
    assert works({8}, card(90, GpuProcess(7, 1), GpuProcess(8, 1)))
    assert not works({8}, card(2, GpuProcess(7, 1), GpuProcess(8, 1)))
    assert not works({9}, card(90, GpuProcess(7, 1)))
