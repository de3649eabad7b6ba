"""Streams: nothing is lost or forged, a slow caller is told, and nobody is harmed by another."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from itertools import islice

import httpx
import pytest

from lictor.web.api import streams
from lictor.web.api.streams import Mailbox, Streams, TooManyStreams, event
from lictor.web.auth.gate import Person
from lictor.web.auth.rights import Role
from tests.support.agent import wait_until
from tests.support.web import Site, events


def person(name: str = "anna") -> Person:
    return Person(name, Role.USER, "bearer")


# --- without a network --------------------------------------------------------------------------


def test_no_text_can_begin_another_event():
    hostile = "data: x\n\nevent: forged\rid: 7\r\n\r\n\u2028\u2029\x85"
    wire = event("line", {"line": hostile}, "5+1").decode()
    assert wire.count("\n\n") == 1
    assert wire.endswith("\n\n")
    assert "\r" not in wire
    fields = [line.partition(":")[0] for line in wire.strip().split("\n")]
    assert fields == ["event", "data", "id"]
    assert json.loads(re.search("data: (.*)", wire)[1])["line"] == hostile


async def test_a_slow_caller_loses_the_oldest_and_is_told_how_many():
    box = Mailbox()
    for number in range(1000):
        box.put(event("line", number))
    text = b""
    while piece := await box.take(0.01):
        text += piece
    assert text.startswith(b'event: dropped\ndata: {"count": 500}')
    assert b"data: 499\n" not in text
    assert b"data: 500\n" in text
    assert b"data: 999\n" in text


async def test_a_full_mailbox_holds_bytes_within_a_limit():
    box = Mailbox()
    for _ in range(200):
        box.put(b"x" * 16_000)
    assert box.dropped > 150


async def test_who_writes_much_is_held_up_until_there_is_room():
    box = Mailbox()
    for number in range(400):
        box.put(event("line", number))
    waiting = asyncio.ensure_future(box.room(5.0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await box.take(0.01)
    await asyncio.wait_for(waiting, 1.0)


def test_places_are_limited_for_one_and_for_all(monkeypatch):
    monkeypatch.setattr(streams, "MOST", 3)
    monkeypatch.setattr(streams, "MOST_OF_ONE", 2)
    open_ones = Streams()
    first = open_ones.enter(person())
    open_ones.enter(person())
    with pytest.raises(TooManyStreams) as refused:
        open_ones.enter(person())
    assert refused.value.status == 429
    open_ones.enter(person("boris"))
    with pytest.raises(TooManyStreams) as refused:
        open_ones.enter(person("clara"))
    assert refused.value.status == 503
    open_ones.leave(person(), first)
    open_ones.enter(person("clara"))
    assert open_ones.count == 3


# --- over the network ---------------------------------------------------------------------------


def test_a_change_of_a_service_is_an_event(site: Site):
    with events(site.admin, "/admin/services/stream") as stream:
        assert next(stream).kind == "services"
        site.agent.ask("change", {"verb": "start", "names": ["tts"]})
        seen = [one.data["phase"] for one in until(stream, "service", "tts", "ready")]
    assert seen[-1] == "ready"
    site.agent.ask("change", {"verb": "stop", "names": ["tts"]})
    site.agent.wait_phase("tts", "stopped")


def until(stream, kind, name, phase):
    found = []
    for one in stream:
        if one.kind == kind and one.data["name"] == name:
            found.append(one)
            if one.data["phase"] == phase:
                return found
    raise AssertionError("the stream ended")


def test_a_stream_of_events_goes_on_after_the_last_id(site: Site):
    site.agent.ask("set", {"name": "vllm", "params": {"model": "Qwen/one"}})
    with events(site.admin, "/admin/events/stream") as stream:
        site.agent.ask("set", {"name": "vllm", "params": {"model": "Qwen/two"}})
        first = next(stream)
    assert "Qwen/two" in first.data["sentence"]
    assert first.id == str(first.data["id"])
    site.agent.ask("set", {"name": "vllm", "params": {"model": "Qwen/three"}})
    headers = {"Last-Event-ID": first.id}
    with events(site.admin, "/admin/events/stream?kind=verb", **headers) as stream:
        missed = next(stream)
    assert "Qwen/three" in missed.data["sentence"]


def test_a_log_that_is_followed_loses_and_repeats_no_line(site: Site):
    log = site.agent.data_dir / "logs" / "tts.log"
    with log.open("a") as file:
        file.write("".join(f"steady {number}\n" for number in range(20)))
    seen: list[str] = []
    mark = "0+0"
    for _ in range(4):
        headers = {"Last-Event-ID": mark}
        with events(site.admin, "/admin/logs/stream/tts?search=steady", **headers) as stream:
            for one in islice(stream, 5):
                seen.append(one.data["line"])
                mark = one.id
    assert seen == [f"steady {number}" for number in range(20)]


def test_a_line_of_a_log_forges_no_event(site: Site):
    log = site.agent.data_dir / "logs" / "memory.log"
    with events(site.admin, "/admin/logs/stream/memory?from=0&search=forged") as stream:
        with log.open("ab") as file:
            file.write(b"data: x\n\nevent: forged\rid: 9\r\r\n")
            file.write(b"forged \x1b[31mred\xff\xe2\x80\xa8\n")
        lines = list(islice(stream, 2))
    assert [one.kind for one in lines] == ["line", "line"]
    assert lines[0].data["line"] == "event: forged\\x0did: 9\\x0d"
    assert lines[1].data["line"] == "forged \\x1b[31mred\ufffd\\u2028"


def test_a_stalled_caller_harms_nobody_and_keeps_no_place_for_ever(site: Site):
    token = site.admin.headers["Authorization"]
    host, port = site.url.removeprefix("http://").split(":")
    request = (
        f"GET /admin/services/stream HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Authorization: {token}\r\n\r\n"
    ).encode()
    stalled = []
    for _ in range(50):
        one = socket.create_connection((host, int(port)))
        one.sendall(request)
        stalled.append(one)
    wait_until(lambda: open_streams(site) >= 50)
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        assert site.admin.get("/supervisor/status").status_code == 200
        times.append(time.perf_counter() - begun)
    assert sorted(times)[10] < 1.0
    for one in stalled:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        one.close()
    wait_until(lambda: open_streams(site) == 0, what="all places are free again")


def test_a_request_that_is_aborted_at_once_keeps_no_place(site: Site):
    token = site.admin.headers["Authorization"]
    host, port = site.url.removeprefix("http://").split(":")
    request = (
        f"GET /admin/events/stream HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Authorization: {token}\r\n\r\n"
    ).encode()
    for _ in range(200):
        one = socket.create_connection((host, int(port)))
        one.sendall(request)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        one.close()
    wait_until(lambda: open_streams(site) == 0, what="all places are free again")


def open_streams(site: Site) -> int:
    found = re.search(r"^lictor_streams (\d+)", site.admin.get("/metrics").text, re.MULTILINE)
    return int(found[1])


def test_the_end_of_the_agent_ends_every_stream_at_once(make_site):
    site = make_site({"tts": {"command": ["sleep", "1000"]}})
    with events(site.admin, "/admin/services/stream") as stream:
        next(stream)
        begun = time.monotonic()
        site.agent.command("down").communicate(timeout=30)
        try:
            for _ in stream:
                pass
        except httpx.RemoteProtocolError:
            pytest.fail("the stream was cut, and not ended")
        assert site.agent.wait_exit() == 0
    assert time.monotonic() - begun < 20


def test_a_person_who_is_deleted_hears_no_more(site: Site):
    client = site.as_("eva", "guest")
    with events(client, "/admin/services/stream") as stream:
        next(stream)
        site.agent.ask("users.delete", {"name": "eva"})
        for _ in stream:
            pass  # it ends; the clock of the test says if not
