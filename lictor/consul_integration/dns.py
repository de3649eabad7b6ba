"""What Consul's DNS answers for a service, asked as any other program would ask.

`lictor resolve` and `lictor explain` need the truth of the last link: not what the catalog holds,
but what a client gets. Consul cuts UDP answers silently (measured on 1.8.7: of 60 instances 3 came
back without EDNS, 19 with a buffer of 1232, all with 4096, never with the TC flag), so an answer
that may have been cut is asked for again over TCP. This is no resolver: it asks one Consul, follows
no CNAME, caches nothing. dnspython is imported when the first question is asked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

from lictor.consul_integration.failures import words
from lictor.core.errors import (
    BadRequest,
    ConsulError,
    ConsulTimeout,
    ConsulUnreachable,
    Garbage,
)
from lictor.core.model.reason import because
from lictor.core.worded import worded

if TYPE_CHECKING:
    import dns.message

Protocol: TypeAlias = Literal["udp", "tcp"]

#: The buffer that we offer (RFC 6891 §6.2.5 names 4096 as a good first choice).
_EDNS_PAYLOAD = 4096
#: From here on an answer may have been cut: Consul's `udp_answer_limit` is 3, and 512 octets are
#: what DNS over UDP holds without EDNS (RFC 1035 §4.2.1).
_CUT_FROM_RECORDS = 3
_CUT_FROM_OCTETS = 512
#: Of the time for one question, what UDP may use: a lost datagram must leave time for TCP.
_UDP_SHARE = 0.4

_TYPES = ("SRV", "A", "AAAA")
_KINDS = ("service", "query")


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """One SRV record with the address of its target.

    `address` is empty if the answer did not bring one (a service registered with a host name: then
    `target` is that name). `node` is known only where the target is a node of Consul. Consul always
    gives priority 1, and the instance's weight.
    """

    target: str
    port: int
    address: str = ""
    node: str = ""
    priority: int = 1
    weight: int = 1


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """What the DNS said. Nothing passing and no such service look the same: NXDOMAIN.

    `question` is the full name that was asked for; `rcode` is that of the SRV answer; `protocol`
    is the one that gave the most complete answer. `truncated`: even that one was cut. `addresses`
    are those of the A and AAAA answers, in the order given; `took` is seconds for everything.
    """

    question: str
    server: str
    rcode: str
    protocol: Protocol
    records: tuple[DnsRecord, ...] = ()
    addresses: tuple[str, ...] = ()
    truncated: bool = False
    took: float = 0.0


async def resolve(
    name: str,
    *,
    server: str,
    port: int,
    tag: str | None = None,
    kind: Literal["service", "query"] = "service",
    domain: str = "consul",
    timeout: float = 3.0,  # noqa: ASYNC109  (it is shared out between UDP and TCP)
) -> DnsAnswer:
    """Ask for SRV, A and AAAA of `[tag.]name.service.consul`, or of a prepared query.

    A `name` with a dot in it is taken as the full name. `timeout` is seconds for each of the
    questions, which are asked at the same time. Raises `BadRequest` for what is no DNS name,
    `ConsulTimeout`, `ConsulUnreachable`, `Garbage`.
    """
    began = time.monotonic()
    question = _question(name, tag, kind, domain)
    address = await _address_of(server, port)
    asked = [
        asyncio.create_task(_ask(question, rdtype, address, port, timeout)) for rdtype in _TYPES
    ]
    try:
        srv, a, aaaa = await asyncio.gather(*asked)
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    return DnsAnswer(
        question=question,
        server=f"[{server}]:{port}" if ":" in server else f"{server}:{port}",
        rcode=srv.rcode,
        protocol=srv.protocol,
        records=tuple(_records(srv.message, domain)),
        addresses=(*_addresses(a.message), *_addresses(aaaa.message)),
        truncated=any(reply.truncated for reply in (srv, a, aaaa)),
        took=time.monotonic() - began,
    )


@dataclass(frozen=True, slots=True)
class FullName:
    """What a full name of Consul's DNS asks for. `dc` is None for the local datacenter."""

    name: str
    kind: Literal["service", "query"]
    tag: str | None = None
    dc: str | None = None


def full_name(text: str, domain: str = "consul") -> FullName | None:
    """`[tag.]name.service[.dc].consul`, `_name._tag.service…` or `name.query…`; None: no such name."""
    labels = text.rstrip(".").split(".")
    tail = domain.strip(".").split(".")
    if [label.lower() for label in labels[-len(tail) :]] != [label.lower() for label in tail]:
        return None
    del labels[-len(tail) :]
    kinds = [label.lower() for label in labels]
    place = next((at for at in (-1, -2) if -at < len(kinds) and kinds[at] in _KINDS), None)
    if place is None:
        return None
    before, dc = labels[:place], labels[-1] if place == -2 else None
    if not before:
        return None
    if kinds[place] == "query":
        return FullName(".".join(before), "query", dc=dc)
    if len(before) == 2 and all(label.startswith("_") for label in before):  # RFC 2782
        name, tag = (label.removeprefix("_") for label in before)
        return FullName(name, "service", None if tag.lower() in {"tcp", "udp"} else tag, dc)
    return FullName(before[-1], "service", ".".join(before[:-1]) or None, dc)


def dns_endpoint(agent_self: Mapping[str, object], http_host: str) -> tuple[str, int] | None:
    """Where a Consul agent's DNS can be reached, from the JSON of its `/v1/agent/self`.

    `http_host` is the host through which its HTTP API is reached; a DNS that listens on every
    address is reached through it too. None: DNS is off, the token may not read this, or the DNS
    listens on a loopback that is not ours.
    """
    debug = agent_self.get("DebugConfig")
    if not isinstance(debug, Mapping):
        return None
    port = debug.get("DNSPort")
    if not isinstance(port, int) or not 0 < port < 65536:
        return None
    # ["tcp://127.0.0.1:8600", "udp://127.0.0.1:8600"]; older versions have no such list.
    hosts = [host for host in map(_host_of, _texts(debug.get("DNSAddrs"))) if host]
    if not hosts or any(ipaddress.ip_address(host).is_unspecified for host in hosts):
        return http_host, port
    if _is_loopback(http_host):
        return hosts[0], port
    reachable = [host for host in hosts if not _is_loopback(host)]
    return (reachable[0], port) if reachable else None


def open_to_others(agent_self: Mapping[str, object]) -> str:
    """An address of Consul's plain HTTP API that other hosts can reach; empty if there is none."""
    debug = agent_self.get("DebugConfig")
    listeners = _texts(debug.get("HTTPAddrs")) if isinstance(debug, Mapping) else []
    hosts = ((listener, _host_of(listener)) for listener in listeners)
    return next((where for where, host in hosts if host and not _is_loopback(host)), "")


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _host_of(listener: str) -> str | None:
    """The IP address of `udp://127.0.0.1:8600`; None for a Unix socket or anything else."""
    try:
        host = urlsplit(listener).hostname or ""
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _question(name: str, tag: str | None, kind: str, domain: str) -> str:
    import dns.exception  # noqa: PLC0415  (only who asks pays for the import, here and below)
    import dns.name  # noqa: PLC0415

    text = name.rstrip(".")
    if "." not in text:
        text = ".".join(part for part in (tag, text, kind, domain.strip(".")) if part)
    try:
        return dns.name.from_text(text).to_text(omit_final_dot=True)
    except dns.exception.DNSException as error:
        bad = because("dns.bad_name", name=text, why=str(error))
        raise worded(BadRequest, bad) from error


async def _address_of(server: str, port: int) -> str:
    try:
        return str(ipaddress.ip_address(server))
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(server, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        unknown = because("dns.unknown_host", server=server, why=str(error))
        raise worded(ConsulUnreachable, unknown) from error
    return str(found[0][4][0])


@dataclass(frozen=True, slots=True)
class _Reply:
    message: dns.message.Message
    protocol: Protocol

    @property
    def rcode(self) -> str:
        from dns.rcode import to_text  # noqa: PLC0415

        return to_text(self.message.rcode())

    @property
    def truncated(self) -> bool:
        from dns.flags import TC  # noqa: PLC0415

        return bool(self.message.flags & TC)

    @property
    def count(self) -> int:
        return sum(len(rrset) for rrset in self.message.answer)

    @property
    def may_be_cut(self) -> bool:
        return (
            self.truncated
            or self.count >= _CUT_FROM_RECORDS
            or len(self.message.to_wire()) >= _CUT_FROM_OCTETS
        )


async def _ask(question: str, rdtype: str, address: str, port: int, patience: float) -> _Reply:
    """One question: UDP first, as programs do, and TCP where UDP may not be the whole truth."""
    try:
        first = await _exchange("udp", question, rdtype, address, port, patience * _UDP_SHARE)
    except ConsulTimeout:
        # A closed UDP port is silent. A closed TCP port says so, and an open one answers.
        return await _exchange("tcp", question, rdtype, address, port, patience * (1 - _UDP_SHARE))
    if not first.may_be_cut:
        return first
    try:
        whole = await _exchange("tcp", question, rdtype, address, port, patience * (1 - _UDP_SHARE))
    except ConsulError:
        return first  # what any client without TCP gets: better than nothing
    # Fewer over TCP: the service changed between the two; the later answer is the truer one.
    return whole if whole.count != first.count or first.truncated else first


async def _exchange(
    protocol: Protocol, question: str, rdtype: str, address: str, port: int, patience: float
) -> _Reply:
    import dns.asyncbackend  # noqa: PLC0415
    import dns.asyncquery  # noqa: PLC0415
    import dns.exception  # noqa: PLC0415
    import dns.message  # noqa: PLC0415

    query = dns.message.make_query(question, rdtype, use_edns=0, payload=_EDNS_PAYLOAD)
    ask = dns.asyncquery.udp if protocol == "udp" else dns.asyncquery.tcp
    try:
        message = await ask(
            query,
            address,
            timeout=patience,
            port=port,
            backend=dns.asyncbackend.get_backend("asyncio"),
        )
    except dns.exception.Timeout as error:
        silent = because("dns.silent", address=address, port=port, protocol=protocol)
        raise worded(ConsulTimeout, silent) from error
    except (OSError, EOFError) as error:
        cut = because("dns.unreachable", address=address, port=port, why=words(error))
        raise worded(ConsulUnreachable, cut) from error
    except dns.exception.DNSException as error:
        odd = because("dns.garbage", address=address, port=port, why=str(error))
        raise worded(Garbage, odd) from error
    return _Reply(message, protocol)


def _addresses(message: dns.message.Message) -> list[str]:
    from dns.rdatatype import AAAA, A  # noqa: PLC0415

    return [
        record.address for rrset in message.answer if rrset.rdtype in {A, AAAA} for record in rrset
    ]


def _records(message: dns.message.Message, domain: str) -> list[DnsRecord]:
    from dns.rdatatype import AAAA, SRV, A  # noqa: PLC0415

    extra = {
        rrset.name.to_text(omit_final_dot=True).lower(): next(iter(rrset)).address
        for rrset in message.additional
        if rrset.rdtype in {A, AAAA}
    }
    found = []
    for rrset in message.answer:
        for record in rrset if rrset.rdtype == SRV else ():
            target = record.target.to_text(omit_final_dot=True)
            found.append(
                DnsRecord(
                    target=target,
                    port=record.port,
                    address=extra.get(target.lower()) or _encoded_address(target),
                    node=_node_of(target, domain),
                    priority=record.priority,
                    weight=record.weight,
                )
            )
    return sorted(found, key=lambda record: (record.priority, record.target, record.port))


def _encoded_address(target: str) -> str:
    """The address in `7f000001.addr.dc1.consul`, which Consul makes of an instance's own one."""
    label, _, rest = target.partition(".")
    if not rest.startswith("addr."):
        return ""
    try:
        return str(ipaddress.ip_address(bytes.fromhex(label)))
    except ValueError:
        return ""


def _node_of(target: str, domain: str) -> str:
    """The node in `host1.node.dc1.consul`; empty for other targets."""
    node, _, rest = target.partition(".")
    return node if rest.startswith("node.") and rest.endswith(f".{domain.strip('.')}") else ""
