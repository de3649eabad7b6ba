"""Asking Consul's DNS: a real Consul where one is needed, small liars for what it never does."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time

import dns.flags
import dns.message
import dns.rcode
import pytest

from lictor.consul_integration.dns import DnsAnswer, FullName, dns_endpoint, full_name, resolve
from lictor.core.errors import BadRequest, ConsulTimeout, ConsulUnreachable, Garbage
from tests.support.consul import ConsulServer, free_ports

# --- a real Consul -----------------------------------------------------------------------------


async def _until(server: ConsulServer, name: str, count: int, **options) -> DnsAnswer:
    deadline = time.monotonic() + 15
    while True:
        answer = await resolve(name, server="127.0.0.1", port=server.dns_port, **options)
        if len(answer.records) == count or time.monotonic() > deadline:
            return answer
        await asyncio.sleep(0.05)


def _register(server: ConsulServer, **service) -> None:
    assert server.raw("PUT", "agent/service/register", service).status == 200


@pytest.mark.consul
async def test_a_service_resolves_to_the_address_and_port_it_was_registered_with(consul):
    _register(consul, ID="dns-one", Name="dns-one", Address="127.0.0.9", Port=5000, Tags=["cpu"])
    answer = await _until(consul, "dns-one", 1)
    assert answer.rcode == "NOERROR"
    assert answer.question == "dns-one.service.consul"
    assert answer.server == f"127.0.0.1:{consul.dns_port}"
    assert [(record.address, record.port) for record in answer.records] == [("127.0.0.9", 5000)]
    assert answer.addresses == ("127.0.0.9",)
    assert answer.protocol == "udp"
    assert not answer.truncated


@pytest.mark.consul
async def test_a_tag_narrows_the_question(consul):
    _register(consul, ID="dns-tag", Name="dns-tag", Address="127.0.0.9", Port=1, Tags=["gpu"])
    answer = await _until(consul, "dns-tag", 1, tag="gpu")
    assert answer.question == "gpu.dns-tag.service.consul"
    other = await resolve("dns-tag", server="127.0.0.1", port=consul.dns_port, tag="cpu")
    assert (other.rcode, other.records, other.addresses) == ("NXDOMAIN", (), ())


@pytest.mark.consul
async def test_an_instance_without_an_address_names_its_node(consul):
    _register(consul, ID="dns-node", Name="dns-node", Port=7)
    [record] = (await _until(consul, "dns-node", 1)).records
    assert (record.node, record.address, record.port) == ("test-node", "127.0.0.1", 7)


@pytest.mark.consul
async def test_an_ipv6_instance_is_found_in_the_aaaa_answer(consul):
    _register(consul, ID="dns-six", Name="dns-six", Address="::1", Port=8)
    answer = await _until(consul, "dns-six", 1)
    assert [(record.address, record.port) for record in answer.records] == [("::1", 8)]
    assert answer.addresses == ("::1",)


@pytest.mark.consul
async def test_an_instance_with_a_host_name_keeps_it_as_its_target(consul):
    _register(consul, ID="dns-host", Name="dns-host", Address="elsewhere.invalid", Port=9)
    [record] = (await _until(consul, "dns-host", 1)).records
    assert (record.target, record.address) == ("elsewhere.invalid", "")


@pytest.mark.consul
async def test_a_critical_instance_is_not_in_dns(consul):
    check = {"CheckID": "dns-bad:c", "TTL": "10m", "Status": "critical"}
    _register(consul, ID="dns-bad", Name="dns-bad", Address="127.0.0.9", Port=1, Check=check)
    _register(consul, ID="dns-bad2", Name="dns-bad", Address="127.0.0.8", Port=2)
    answer = await _until(consul, "dns-bad", 1)
    assert [record.port for record in answer.records] == [2]


@pytest.mark.consul
async def test_all_of_sixty_instances_are_seen_and_so_are_a_hundred_and_fifty(consul):
    """Over UDP, 1.8.7 cuts the second without a word: only TCP tells."""
    for count in (60, 150):
        for number in range(count):
            _register(
                consul,
                ID=f"dns-many-{count}-{number}",
                Name=f"dns-many-{count}",
                Address=f"127.0.1.{number + 1}",
                Port=20000 + number,
            )
        answer = await _until(consul, f"dns-many-{count}", count)
        assert {record.port for record in answer.records} == set(range(20000, 20000 + count))
        for record in answer.records:
            assert record.address == f"127.0.1.{record.port - 19999}"
        assert not answer.truncated
    assert answer.protocol == "tcp"


@pytest.mark.consul
async def test_a_prepared_query_is_asked_by_its_own_name(consul):
    _register(consul, ID="dns-q", Name="dns-q", Address="127.0.0.7", Port=70)
    body = {"Name": "dns-best", "Service": {"Service": "dns-q", "OnlyPassing": True}}
    assert consul.raw("POST", "query", body).status == 200
    answer = await _until(consul, "dns-best", 1, kind="query")
    assert answer.question == "dns-best.query.consul"
    assert answer.addresses == ("127.0.0.7",)
    full = await _until(consul, "dns-best.query.consul", 1)
    assert full.question == answer.question


@pytest.mark.consul
async def test_an_unknown_service_is_nxdomain_and_no_error(consul):
    answer = await resolve("dns-nobody", server="127.0.0.1", port=consul.dns_port)
    assert (answer.rcode, answer.records, answer.addresses) == ("NXDOMAIN", (), ())


@pytest.mark.consul
async def test_the_server_may_be_given_by_name(consul):
    answer = await resolve("dns-nobody", server="localhost", port=consul.dns_port)
    assert answer.rcode == "NXDOMAIN"


@pytest.mark.consul
async def test_the_dns_port_of_a_real_consul_is_learned_from_agent_self(consul):
    about = consul.raw("GET", "agent/self").json
    assert dns_endpoint(about, "127.0.0.1") == ("127.0.0.1", consul.dns_port)


@pytest.mark.consul
async def test_a_frozen_consul_is_a_timeout(own_consul):
    own_consul.freeze()
    with pytest.raises(ConsulTimeout):
        await resolve("piper", server="127.0.0.1", port=own_consul.dns_port, timeout=0.8)


# --- liars -------------------------------------------------------------------------------------


async def test_a_closed_port_is_unreachable_not_nothing_found():
    [port] = free_ports(1)
    with pytest.raises(ConsulUnreachable, match="reached: Connection refused\\."):
        await resolve("piper", server="127.0.0.1", port=port, timeout=1.0)


async def test_a_host_that_does_not_exist_is_unreachable():
    with pytest.raises(ConsulUnreachable):
        await resolve("piper", server="nowhere.invalid", port=53, timeout=1.0)


@pytest.mark.parametrize("name", ["a" * 64, "a..b", "é" * 60 + ".consul"])
async def test_what_dns_cannot_carry_is_refused_before_anything_is_sent(name):
    with pytest.raises(BadRequest):
        await resolve(name, server="127.0.0.1", port=1, timeout=0.2)


class _Liar(asyncio.DatagramProtocol):
    """Answers every UDP question with `answer(question)`."""

    def __init__(self, answer):
        self._answer = answer

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, data, addr):
        reply = self._answer(data)
        if reply is not None:
            self._transport.sendto(reply, addr)


@contextlib.asynccontextmanager
async def _liar(udp, tcp=None):
    [port] = free_ports(1)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Liar(udp), local_addr=("127.0.0.1", port)
    )

    async def serve(reader, writer):
        size = int.from_bytes(await reader.readexactly(2), "big")
        reply = tcp(await reader.readexactly(size))
        writer.write(len(reply).to_bytes(2, "big") + reply)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", port) if tcp else None
    try:
        yield port
    finally:
        transport.close()
        if server:
            server.close()
            await server.wait_closed()


def _reply(question: bytes, *records: str, truncated: bool = False, rcode=dns.rcode.NOERROR):
    query = dns.message.from_wire(question)
    lines = [f"{query.question[0].name} 0 IN {record}" for record in records]
    reply = dns.message.make_response(query)
    asked = query.question[0].rdtype
    for rrset in dns.message.from_text("\n".join(["id 1", ";ANSWER", *lines])).answer:
        if rrset.rdtype == asked:
            reply.answer.append(rrset)
    reply.set_rcode(rcode)
    if truncated:
        reply.flags |= dns.flags.TC
    return reply.to_wire()


ONE = "SRV 1 1 80 7f000001.addr.dc1.consul."
TWO = "SRV 1 1 81 7f000002.addr.dc1.consul."


async def test_an_answer_marked_as_truncated_is_asked_for_again_over_tcp():
    udp = lambda data: _reply(data, ONE, truncated=True)  # noqa: E731
    tcp = lambda data: _reply(data, ONE, TWO)  # noqa: E731
    async with _liar(udp, tcp) as port:
        answer = await resolve("piper", server="127.0.0.1", port=port)
    assert [record.port for record in answer.records] == [80, 81]
    assert (answer.protocol, answer.truncated) == ("tcp", False)


async def test_a_truncated_answer_without_tcp_says_that_it_is_not_whole():
    udp = lambda data: _reply(data, ONE, truncated=True)  # noqa: E731
    async with _liar(udp) as port:
        answer = await resolve("piper", server="127.0.0.1", port=port)
    assert [record.port for record in answer.records] == [80]
    assert (answer.protocol, answer.truncated) == ("udp", True)


async def test_a_silently_cut_answer_of_three_is_found_out():
    three = [f"SRV 1 1 {port} 7f000001.addr.dc1.consul." for port in (80, 81, 82)]
    udp = lambda data: _reply(data, *three)  # noqa: E731
    tcp = lambda data: _reply(data, *three, "SRV 1 1 83 7f000001.addr.dc1.consul.")  # noqa: E731
    async with _liar(udp, tcp) as port:
        answer = await resolve("piper", server="127.0.0.1", port=port)
    assert [record.port for record in answer.records] == [80, 81, 82, 83]
    assert answer.protocol == "tcp"


async def test_where_udp_is_lost_tcp_still_answers():
    tcp = lambda data: _reply(data, ONE)  # noqa: E731
    async with _liar(lambda data: None, tcp) as port:
        answer = await resolve("piper", server="127.0.0.1", port=port, timeout=1.0)
    assert [record.address for record in answer.records] == ["127.0.0.1"]
    assert answer.protocol == "tcp"


async def test_a_consul_without_servers_answers_servfail():
    udp = lambda data: _reply(data, rcode=dns.rcode.SERVFAIL)  # noqa: E731
    async with _liar(udp) as port:
        answer = await resolve("piper", server="127.0.0.1", port=port)
    assert (answer.rcode, answer.records) == ("SERVFAIL", ())


async def test_an_answer_that_is_no_dns_is_garbage():
    async with _liar(lambda data: data[:2] + b"\x80\x00 not dns") as port:
        with pytest.raises(Garbage):
            await resolve("piper", server="127.0.0.1", port=port, timeout=1.0)


# --- where the DNS is --------------------------------------------------------------------------


def _about(port: object, *hosts: str) -> dict[str, object]:
    listeners = [f"{kind}://{host}:{port}" for host in hosts for kind in ("tcp", "udp")]
    return {"DebugConfig": {"DNSPort": port, "DNSAddrs": listeners}}


@pytest.mark.parametrize(
    ("about", "http_host", "expected"),
    [
        (_about(8600, "127.0.0.1"), "127.0.0.1", ("127.0.0.1", 8600)),
        (_about(8600, "127.0.0.1"), "localhost", ("127.0.0.1", 8600)),
        (_about(53, "0.0.0.0"), "10.0.0.5", ("10.0.0.5", 53)),
        (_about(53, "[::]"), "127.0.0.1", ("127.0.0.1", 53)),
        (_about(8600, "127.0.0.1", "10.0.0.5"), "10.0.0.5", ("10.0.0.5", 8600)),
        (_about(8600, "127.0.0.1"), "10.0.0.5", None),  # the loopback of another host
        ({"DebugConfig": {"DNSPort": 8600}}, "127.0.0.1", ("127.0.0.1", 8600)),
        (_about(-1), "127.0.0.1", None),
        (_about("8600"), "127.0.0.1", None),
        ({"DebugConfig": None}, "127.0.0.1", None),
        ({}, "127.0.0.1", None),  # the token may not read the agent
    ],
)
def test_the_dns_endpoint_is_one_that_can_be_reached_from_here(about, http_host, expected):
    assert dns_endpoint(about, http_host) == expected


def test_importing_the_module_does_not_load_dnspython():
    code = "import sys, lictor.consul_integration.dns; sys.exit('dns.message' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("piper.service.consul", FullName("piper", "service")),
        ("Piper.SERVICE.Consul.", FullName("Piper", "service")),
        ("cpu.piper.service.consul", FullName("piper", "service", "cpu")),
        ("a.b.piper.service.dc1.consul", FullName("piper", "service", "a.b", "dc1")),
        ("_piper._tcp.service.consul", FullName("piper", "service")),
        ("_piper._cpu.service.consul", FullName("piper", "service", "cpu")),
        ("voice.query.consul", FullName("voice", "query")),
        ("voice.query.dc2.consul", FullName("voice", "query", None, "dc2")),
        ("host1.node.consul", None),
        ("service.consul", None),
        ("consul", None),
        ("piper.service.example", None),
        ("piper", None),
        ("with.dot", None),
    ],
)
def test_a_full_name_says_what_it_asks_for(text, expected):
    assert full_name(text) == expected


def test_a_domain_may_have_several_labels():
    assert full_name("piper.service.dc.example", "dc.example") == FullName("piper", "service")
