"""The transport against a real Consul and against servers that lie."""

import asyncio
import json
import os
import time

import pytest

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.failures import reason_of
from lictor.consul_integration.transport import ConnectionRenewed, Limits
from lictor.consul_integration.watch import Watch
from lictor.core.errors import (
    BadRequest,
    Conflict,
    ConsulError,
    ConsulTimeout,
    ConsulUnreachable,
    Forbidden,
    Garbage,
    NoLeader,
    NotFound,
    RateLimited,
    TooLarge,
)
from tests.support.consul import ConsulServer, free_ports
from tests.support.liar import answer, liar
from tests.support.patience import soon, until

FAST = Limits(connect=0.5, total=0.5, watch_margin=0.5)


@pytest.mark.consul
async def test_a_key_with_every_odd_character_comes_back_as_it_was_put(client, unique):
    key = f"{unique}/ключ ?#%&=+ключ"
    assert await client.kv_put(key, "значение")
    found = await client.kv_get(key)
    assert found is not None
    assert (found.key, found.value.decode()) == (key, "значение")


@pytest.mark.consul
async def test_py_consul_never_gets_to_choose_the_token(acl_consul, connect, monkeypatch):
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "00000000-0000-4000-8000-000000000000")
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "http://127.0.0.1:1")
    client = connect(acl_consul.http, token=acl_consul.master)
    assert (await client.agent_self())["Config"]["NodeName"] == acl_consul.node
    assert await client.kv_put("token-test/x", "1")


@pytest.mark.consul
async def test_a_rotated_token_is_used_at_the_next_call(acl_consul, connect):
    tokens = ["wrong", acl_consul.master]
    client = connect(acl_consul.http, token=lambda: tokens[0])
    with pytest.raises(Forbidden) as caught:
        await client.agent_services()
    assert caught.value.unknown_token
    assert reason_of(caught.value).code == "consul.unknown_token"
    tokens.pop(0)
    assert isinstance(await client.agent_services(), dict)


@pytest.mark.consul
async def test_a_frozen_server_costs_the_deadline_and_no_more(own_consul: ConsulServer, connect):
    client = connect(own_consul.http, limits=FAST)
    await client.leader()
    own_consul.freeze()
    began = time.monotonic()
    with pytest.raises(ConsulTimeout):
        await soon(client.leader())
    assert time.monotonic() - began < 5
    own_consul.thaw()
    assert await until(client.leader)


@pytest.mark.consul
async def test_watches_that_fill_their_pool_do_not_hold_up_a_call(consul, connect, unique):
    client = connect(consul.http, limits=Limits(calls=1, watches=4))
    await client.kv_put(f"{unique}/x", "1")
    answered = []

    async def follow():
        async for each in Watch(lambda index, wait: client.kv_list(unique, index, wait)).answers():
            answered.append(each)

    watches = [asyncio.create_task(follow()) for _ in range(4)]
    await until(lambda: len(answered) >= 4)
    await asyncio.sleep(0.3)
    began = time.monotonic()
    assert await client.kv_get(f"{unique}/x")
    assert time.monotonic() - began < 2
    assert not any(watch.done() for watch in watches)
    for watch in watches:
        watch.cancel()
    results = await soon(asyncio.gather(*watches, return_exceptions=True))
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert await client.kv_get(f"{unique}/x")


async def test_a_unix_socket_is_spoken_to(tmp_path, connect):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer('"10.0.0.1:8300"'))
        await writer.drain()
        writer.close()

    path = tmp_path / "s"
    server = await asyncio.start_unix_server(serve, path)
    assert await connect(f"unix://{path}").leader() == "10.0.0.1:8300"
    server.close()
    await server.wait_closed()


async def test_a_closed_port_is_unreachable_and_the_message_says_where(connect):
    (port,) = free_ports(1)
    with pytest.raises(
        ConsulUnreachable, match=rf"http://127\.0\.0\.1:{port}: Connection refused\."
    ):
        await connect(f"http://127.0.0.1:{port}").leader()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        ("301 Moved", "", Garbage),
        ("302 Found", "", Garbage),
        ("400 Bad Request", "Request decode failed", BadRequest),
        ("403 Forbidden", "Permission denied", Forbidden),
        ("403 Forbidden", "ACL not found", Forbidden),
        ("405 Method Not Allowed", "", BadRequest),
        ("409 Conflict", "{}", Conflict),
        ("409 Conflict", '{"Errors":[{"What":"Permission denied"}]}', Forbidden),
        ("413 Too Large", "", TooLarge),
        ("429 Too Many Requests", "", RateLimited),
        ("500 Internal Server Error", "No cluster leader", NoLeader),
        ("500 Internal Server Error", "No known Consul servers", NoLeader),
        ("500 Internal Server Error", "rpc error making call: EOF", ConsulError),
        (
            "500 Internal Server Error",
            "rpc error getting client: failed to get conn: connection refused",
            NoLeader,
        ),
        ("500 Internal Server Error", "No path to datacenter", BadRequest),
        ("500 Internal Server Error", 'CheckID "x" does not have associated TTL', NotFound),
        ("503 Service Unavailable", "", ConsulUnreachable),
        ("204 No Content", "", Garbage),
    ],
)
async def test_each_refusal_becomes_the_error_that_it_means(connect, status, body, expected):
    async with liar(lambda _: answer(body, status=status)) as server:
        with pytest.raises(ConsulError) as caught:
            await connect(server.url).leader()
    assert type(caught.value) is expected
    assert reason_of(caught.value).code.startswith("consul.")


async def test_a_request_that_was_one_too_many_is_sent_again_a_little_later(connect):
    refused = iter(["429 Too Many Requests"] * 2)
    async with liar(lambda _: answer('"10.0.0.1:8300"', status=next(refused, "200 OK"))) as server:
        assert await connect(server.url).leader() == "10.0.0.1:8300"
        assert len(server.requests) == 3


async def test_a_limit_that_never_ends_is_told_after_a_few_tries(connect):
    async with liar(lambda _: answer("", status="429 Too Many Requests")) as server:
        with pytest.raises(RateLimited):
            await connect(server.url).kv_put("a", "b")
        assert len(server.requests) == 4


async def test_a_redirect_is_not_followed(connect):
    async with liar(lambda _: answer('"elsewhere"')) as target:
        moved = answer("", status="307 Moved", headers=f"Location: {target.url}/v1/x\r\n")
        async with liar(lambda _: moved) as server:
            with pytest.raises(Garbage):
                await connect(server.url, token="secret").leader()
        assert target.requests == []


@pytest.mark.parametrize(
    "body", ["", "{", "nonsense", "[1,", "[" * 100_000, b"\xff\xfe", "5", '["x"]', "[[]]", "null"]
)
async def test_an_answer_that_makes_no_sense_is_garbage(connect, body):
    async with liar(lambda _: answer(body)) as server:
        with pytest.raises(Garbage):
            await connect(server.url).catalog_services()


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"Key": "a"},
        {"Key": "a", "Value": 5},
        {"Key": "a", "Value": "A", "ModifyIndex": 1},
        {"Key": "a", "Value": "eA==", "ModifyIndex": "x"},
        7,
        "x",
        None,
    ],
)
async def test_a_kv_item_that_makes_no_sense_is_garbage(connect, item):
    async with liar(lambda _: answer(json.dumps([item]))) as server:
        with pytest.raises(Garbage):
            await connect(server.url).kv_list("a")


async def test_an_answer_without_its_index_is_garbage(connect):
    async with liar(lambda _: answer("[]", index=None)) as server:
        with pytest.raises(Garbage):
            await connect(server.url).kv_list("a")


async def test_an_answer_that_is_not_http_is_garbage(connect):
    async with liar(lambda _: b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as server:
        with pytest.raises(Garbage):
            await connect(server.url).leader()


@pytest.mark.parametrize(
    "cut", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"]
)
async def test_an_answer_that_is_cut_short_means_unreachable(connect, cut):
    async with liar(lambda _: cut) as server:
        with pytest.raises(ConsulUnreachable):
            await connect(server.url).leader()


async def test_an_answer_over_the_cap_is_refused_before_it_is_read(connect):
    big = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 300_000
    async with liar(lambda _: big) as server:
        with pytest.raises(TooLarge):
            await connect(server.url, limits=Limits(body=100_000)).leader()


async def test_silence_ends_at_the_deadline_also_for_a_blocking_query(connect):
    async with liar(lambda _: None) as server:
        client = connect(server.url, limits=FAST)
        with pytest.raises(ConsulTimeout):
            await soon(client.leader())
        with pytest.raises(ConsulTimeout):
            await soon(client.kv_list("x", 0, 30))


async def test_a_blocking_query_gets_its_wait_and_a_little_more(connect):
    def script(head):
        return None if "index" in head else answer("[]", index=7)

    async with liar(script, keep=True) as server:
        client = connect(server.url, limits=FAST)
        await client.kv_list("x", 0, 1.5)
        began = time.monotonic()
        with pytest.raises(ConsulTimeout):
            await soon(client.kv_list("x", 7, 1.5))
        assert time.monotonic() - began > 1.5


async def test_an_index_is_never_carried_over_to_a_new_connection(connect):
    async with liar(lambda _: answer("[]", index=7), keep=True) as server:
        client = connect(server.url)
        await client.kv_list("x", 0, 5)
        await client.kv_list("x", 7, 5)
        assert server.connections == 1
        server.drop()
        with pytest.raises(ConnectionRenewed):
            await client.kv_list("x", 7, 5)
        await client.kv_list("x", 0, 5)
        await client.kv_list("x", 7, 5)
        assert sum("index=7" in head for head in server.requests) == 2


async def test_behind_something_that_closes_each_connection_watches_go_on(connect):
    closing = answer("[]", index=7, headers="Connection: close\r\n")
    async with liar(lambda _: closing) as server:
        client = connect(server.url)
        await client.kv_list("x", 0, 5)
        assert await client.kv_list("x", 7, 5) == (7, [])


async def test_a_proxy_in_the_environment_is_not_used(connect, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with liar(lambda _: answer('"x"')) as server:
        assert await connect(server.url).leader() == "x"


async def test_a_token_with_a_line_break_is_refused_and_not_shown(connect):
    async with liar(lambda _: answer('"x"')) as server:
        with pytest.raises(BadRequest) as caught:
            await connect(server.url, token="sec\r\nret: x").leader()
    assert "ret: x" not in str(caught.value)


async def test_after_close_a_call_fails_cleanly_and_closing_twice_is_fine():
    client = ConsulClient("http://127.0.0.1:1")
    await client.close()
    await client.close()
    with pytest.raises(ConsulUnreachable):
        await client.leader()


async def test_closing_ends_a_query_under_way():
    async with liar(lambda _: None) as server:
        client = ConsulClient(server.url)
        query = asyncio.create_task(client.kv_list("x", 0, 30))
        await until(lambda: server.requests)
        await client.close()
        with pytest.raises(ConsulUnreachable):
            await soon(query)


async def test_core_and_the_light_command_line_do_not_load_py_consul():
    code = (
        "import sys, lictor.core.ports, lictor.core.errors; "
        "sys.exit('consul' in sys.modules or 'aiohttp' in sys.modules)"
    )
    import sys

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=os.environ)
    assert await soon(process.wait()) == 0
