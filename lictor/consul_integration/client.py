"""A typed facade over the endpoints of Consul that Lictor uses, and no others.

Everything else in this package talks to Consul through it, so that shapes are checked in one place:
what Consul sends is turned into small values here, or refused as `Garbage`. py-consul builds paths
and parameters; where it cannot say what we need (a comment tells why) the request is built here. It
keeps no state but its connections, and decides nothing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from lictor.consul_integration.address import (
    ConsulAddress,
    ConsulSettings,
    TlsOptions,
    TokenFile,
    TokenProvider,
)
from lictor.consul_integration.endpoints import Endpoints
from lictor.consul_integration.failures import AclDisabled
from lictor.consul_integration.transport import Answer, Limits, Params, Transport
from lictor.core.errors import Conflict, Forbidden, Garbage, NotFound
from lictor.core.model.reason import because
from lictor.core.worded import worded

#: Consul's own limit of operations in one transaction (65 are answered 413; measured on 1.8.7).
TXN_OPERATIONS = 64


@dataclass(frozen=True, slots=True)
class KvItem:
    """One key of KV as read. `value` is the bytes that were put; empty for a key without a value.

    `session` is the session that has the key locked; empty while nobody has. `create_index` is when
    it was made: a key that was deleted and put again is a new one.
    """

    key: str
    value: bytes
    modify_index: int
    session: str = ""
    create_index: int = 0


class ConsulClient:
    """One Consul, spoken to with deadlines. Every method raises `ConsulError` and nothing else.

    `token` is a token, or something that gives it each time it is needed. It is made without a
    running loop and closed with `close()`; it belongs to the loop of its first call.
    """

    def __init__(
        self,
        address: str | ConsulAddress = "http://127.0.0.1:8500",
        *,
        token: str | TokenProvider | None = None,
        tls: TlsOptions | None = None,
        limits: Limits | None = None,
    ) -> None:
        where = ConsulAddress.parse(address) if isinstance(address, str) else address
        self._token: TokenProvider = token if callable(token) else lambda: token
        self.transport = Transport(where, token=self._token, tls=tls, limits=limits)
        self._endpoints = Endpoints(self.transport)
        self._watches = Endpoints(self.transport, watch=True)

    @classmethod
    def of(cls, settings: ConsulSettings, *, limits: Limits | None = None) -> ConsulClient:
        """A client for resolved settings."""
        return cls(settings.address, token=settings.token, tls=settings.tls, limits=limits)

    @property
    def address(self) -> ConsulAddress:
        """Where this client connects to."""
        return self.transport.address

    def credential(self) -> str:
        """A mark of the token in use, from which nobody gets the token; empty without one."""
        token = self._token()
        return hashlib.sha256(token.encode()).hexdigest()[:16] if token else ""

    async def close(self) -> None:
        """Close all connections; blocking queries under way fail. Closing twice is fine."""
        await self.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    async def request(
        self, method: str, path: str, *, params: Params = (), body: object = None
    ) -> Any:
        """Any endpoint (`path` begins with `/v1/`), JSON in and out; a 404 raises `NotFound`.

        For endpoints that py-consul lacks or gets wrong, so that callers still get our deadlines
        and errors. An answer without a body gives None.
        """

        def meaning(answer: Answer) -> Any:
            if answer.code == 404:
                raise worded(NotFound, because("reply.not_found", path=path))
            return json.loads(answer.body) if answer.body.strip() else None

        data = None if body is None else json.dumps(body)
        return await self.transport.send(method, path, params, data, callback=meaning)

    # --- the agent and the cluster -----------------------------------------------------------

    async def agent_self(self) -> Mapping[str, Any]:
        """`agent/self`: configuration of the local Consul agent. Needs `agent:read` with ACLs on."""
        return _mapping(await self._endpoints.agent.self(), "agent/self")

    async def leader(self) -> str:
        """Address of the leader; empty while there is none (and stale just after it died)."""
        return str(await self._endpoints.status.leader() or "")

    async def check_token(self) -> None:
        """Return if the token is known to Consul, or ACLs are off; else raise `Forbidden`.

        1.8.7 answers 200 for a known token, 401 without ACLs, 403 for an unknown one and for none.
        """
        try:
            await self._endpoints.acl.token.read_self()
        except AclDisabled:
            return
        except Forbidden as error:
            if self._token():
                raise
            missing = self._no_token()
            raise missing from error

    def _no_token(self) -> Forbidden:
        if isinstance(self._token, TokenFile) and self._token.trouble is not None:
            needed = because("next.token_needed")
            return worded(Forbidden, self._token.trouble, hint=needed, code="consul.token_file")
        return worded(
            Forbidden,
            because("consul.no_token"),
            hint=because("next.token_variables"),
            code="consul.no_token",
        )

    async def server_ids(self) -> frozenset[str]:
        """Node ids of the servers: all of them new means that the cluster lost its state.

        Empty when they may not be read, which says nothing.
        """
        _, servers = await self._endpoints.catalog.service("consul")
        listed = _mappings(servers, "catalog/service/consul")
        return frozenset(str(server["ID"]) for server in listed if server.get("ID"))

    # --- services of the local agent ---------------------------------------------------------

    async def agent_services(self) -> Mapping[str, Mapping[str, Any]]:
        """`agent/services`, by id. Without rights 1.8.7 answers `{}`: empty proves nothing."""
        return _nested(await self._endpoints.agent.services(), "agent/services")

    async def register_service(
        self,
        service_id: str,
        name: str,
        *,
        address: str,
        port: int,
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        checks: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Register a service and all its checks in one call.

        In one call, because a service without checks counts as passing for a moment
        (hashicorp/nomad#3935). Never with `replace-existing-checks`, which ends maintenance mode
        silently (hashicorp/nomad#4537). The checks are plain dicts: py-consul's helpers have no id,
        no status and no notes.
        """
        first, rest = (
            (dict(checks[0]), [dict(check) for check in checks[1:]]) if checks else (None, [])
        )
        await self._endpoints.agent.service.register(
            name,
            service_id=service_id,
            address=address,
            port=port,
            tags=list(tags),
            meta=dict(meta or {}),
            check=first,
            extra_checks=rest,
        )

    async def deregister_service(self, service_id: str) -> None:
        """Remove a service and its checks from the local agent; one that is not there is fine."""
        await self._endpoints.agent.service.deregister(service_id)

    async def deregister_check(self, check_id: str) -> None:
        """Remove one check from the local agent; one that is not there is fine."""
        await self._endpoints.agent.check.deregister(check_id)

    async def update_check(self, check_id: str, status: str, output: str) -> None:
        """Set the status of a TTL check. Raises `NotFound` for a check that is not there.

        Built here: py-consul has only pass, warn and fail, and puts the text into the URL, where
        it is cut short and ends up in access logs.
        """
        await self.request(
            "PUT", f"/v1/agent/check/update/{check_id}", body={"Status": status, "Output": output}
        )

    # --- catalog and health ------------------------------------------------------------------

    async def node_checks(
        self, node: str, index: int = 0, wait: float = 0.0
    ) -> tuple[int, list[Mapping[str, Any]]]:
        """`health/node/<node>`: index and every check of a node. Blocks as `kv_list` does."""
        endpoints = self._watches if wait else self._endpoints
        seen, checks = await endpoints.health.node(node, **_blocking(index, wait))
        return _index(seen), _mappings(checks, "health/node")

    async def node_services(self, node: str) -> Mapping[str, Mapping[str, Any]]:
        """`catalog/node/<node>`: its entries, by id. Empty for a node that may not be read."""
        found = await self.catalog_node(node)
        return _nested(found.get("Services") or {}, "catalog/node")

    async def catalog_deregister(self, node: str, service_id: str) -> None:
        """`catalog/deregister`: one entry, of a node whose own agent cannot be asked any more."""
        await self._endpoints.catalog.deregister(node, service_id=service_id)

    async def service_health(
        self,
        name: str,
        *,
        tag: str | None = None,
        dc: str | None = None,
        near: str | None = None,
    ) -> list[Mapping[str, Any]]:
        """`health/service/<name>`: every instance with its node and checks, whatever its health."""
        _, entries = await self._endpoints.health.service(name, tag=tag, dc=dc, near=near)
        return _mappings(entries, "health/service")

    async def watch_service(
        self, name: str, dc: str | None, index: int, wait: float
    ) -> tuple[int, list[Mapping[str, Any]]]:
        """The same as one step of a watch; blocks as `kv_list` does."""
        health = self._watches.health
        seen, entries = await health.service(name, dc=dc, **_blocking(index, wait))
        return _index(seen), _mappings(entries, "health/service")

    async def all_checks(
        self, dc: str | None = None, index: int = 0, wait: float = 0.0
    ) -> tuple[int, list[Mapping[str, Any]]]:
        """`health/state/any`: index and every check of every node. Blocks as `kv_list` does."""
        endpoints = self._watches if wait else self._endpoints
        seen, checks = await endpoints.health.state("any", dc=dc, **_blocking(index, wait))
        return _index(seen), _mappings(checks, "health/state")

    async def catalog_nodes(self, dc: str | None = None) -> list[str]:
        """`catalog/nodes`: the names of all nodes that may be read."""
        _, nodes = await self._endpoints.catalog.nodes(dc=dc)
        return [str(node.get("Node")) for node in _mappings(nodes, "catalog/nodes")]

    async def catalog_node(self, node: str, dc: str | None = None) -> Mapping[str, Any]:
        """`catalog/node/<node>`: the node and its entries; empty for one that may not be read."""
        _, found = await self._endpoints.catalog.node(node, dc=dc)
        return _mapping(found or {}, "catalog/node")

    async def catalog_services(self, dc: str | None = None) -> Mapping[str, list[str]]:
        """`catalog/services`: all tags of every service name."""
        _, services = await self._endpoints.catalog.services(dc=dc)
        named = _mapping(services, "catalog/services")
        return {name: [str(tag) for tag in tags or ()] for name, tags in named.items()}

    # --- KV ----------------------------------------------------------------------------------

    async def kv_get(self, key: str) -> KvItem | None:
        """One key; None if there is none, *or if it may not be read* (1.8.7: 404 for both)."""
        _, found = await self._endpoints.kv.get(key)
        return None if found is None else _kv_item(found)

    async def kv_list(
        self, prefix: str, index: int = 0, wait: float = 0.0
    ) -> tuple[int, list[KvItem]]:
        """Index and all keys below a prefix: a consistent snapshot.

        Keys that may not be read are left out without a word (1.8.7), so empty proves nothing. With
        `wait` it is one step of a watch (see `watch.Watch`): it blocks up to `wait` seconds if
        `index` is not 0, and raises `ConnectionRenewed` if that index came over a connection that
        is gone.
        """
        endpoints = self._watches if wait else self._endpoints
        seen, found = await endpoints.kv.get(prefix, recurse=True, **_blocking(index, wait))
        return _index(seen), [_kv_item(item) for item in _mappings(found or [], "kv")]

    async def kv_put(self, key: str, value: str, *, cas: int | None = None) -> bool:
        """Write one key; with `cas` only if its modify index still is that (0: if it is new)."""
        return await self._endpoints.kv.put(key, value.encode(), cas=cas) is True

    async def kv_lock(self, key: str, value: str, session: str) -> bool:
        """Write one key and lock it with a session; False while another session has it.

        Also false for the lock-delay of a session that was lost. Raises `ConsulError` for a session
        that Consul does not know (500, "invalid session").
        """
        return await self._endpoints.kv.put(key, value.encode(), acquire=session) is True

    async def kv_unlock(self, key: str, value: str, session: str) -> bool:
        """Write one key and give its lock back; no lock-delay follows."""
        return await self._endpoints.kv.put(key, value.encode(), release=session) is True

    async def kv_delete(self, key: str, *, cas: int | None = None) -> bool:
        """Delete one key; with `cas` only if its modify index still is that."""
        return await self._endpoints.kv.delete(key, cas=cas) is True

    async def kv_may_read(self, key: str) -> None:
        """Return if the token may read this key; else raise `Forbidden`.

        The only loud question that there is: reads leave out what is not allowed without a word,
        but a transaction that checks a key's index is refused with "Permission denied" (1.8.7).
        """
        with contextlib.suppress(Conflict):  # allowed, and the key has another index or is absent
            await self.kv_transaction([{"Verb": "check-index", "Key": key, "Index": 1}])

    # --- sessions ----------------------------------------------------------------------------

    async def session_create(self, name: str, *, ttl: float, lock_delay: float) -> str:
        """A session that ends when it is not renewed for `ttl` seconds (up to twice that), its id.

        Built here: py-consul cannot say that it depends on no check. One that depends on
        `serfHealth` is lost whenever the servers lose sight of the node for a moment.
        """
        body = {
            "Name": name,
            "TTL": f"{ttl:g}s",
            "LockDelay": f"{lock_delay:g}s",
            "Behavior": "release",
            "NodeChecks": [],
        }
        made = _mapping(
            await self.request("PUT", "/v1/session/create", body=body), "session/create"
        )
        return str(made.get("ID") or "")

    async def session_renew(self, session: str) -> None:
        """Begin its time anew; raises `NotFound` for one that is over."""
        await self.request("PUT", f"/v1/session/renew/{session}")

    async def session_destroy(self, session: str) -> None:
        """End a session; one that is over is fine."""
        await self.request("PUT", f"/v1/session/destroy/{session}")

    async def kv_transaction(self, operations: Sequence[Mapping[str, Any]]) -> None:
        """Do up to 64 KV operations, all or none. Raises `Conflict` (or `Forbidden`) if refused."""
        await self._endpoints.txn.put([{"KV": dict(operation)} for operation in operations])


def kv_set(key: str, value: str, *, create_only: bool = False) -> Mapping[str, Any]:
    """A transaction's operation that writes a key, or only creates it."""
    encoded = base64.b64encode(value.encode()).decode()
    if create_only:
        return {"Verb": "cas", "Key": key, "Value": encoded, "Index": 0}
    return {"Verb": "set", "Key": key, "Value": encoded}


def kv_remove(key: str) -> Mapping[str, Any]:
    """A transaction's operation that deletes a key, if it is there."""
    return {"Verb": "delete", "Key": key}


def _blocking(index: int, wait: float) -> dict[str, Any]:
    return {"index": index, "wait": f"{wait:g}s"} if index else {}


def _index(text: object) -> int:
    # A string in py-consul; compared as text, "10" would be below "9".
    try:
        return int(str(text))
    except ValueError as error:
        raise worded(Garbage, because("reply.index", index=str(text))) from error


def _kv_item(item: Mapping[str, Any]) -> KvItem:
    try:
        # Decoded by py-consul, and null for a key without a value.
        key, value, index = str(item["Key"]), bytes(item["Value"] or b""), int(item["ModifyIndex"])
        created = int(item["CreateIndex"])
        return KvItem(key, value, index, str(item.get("Session") or ""), created)
    except (LookupError, TypeError, ValueError) as error:
        raise worded(Garbage, because("reply.item")) from error


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise worded(Garbage, because("reply.not_object", what=what))
    return value


def _nested(value: object, what: str) -> Mapping[str, Mapping[str, Any]]:
    return {name: _mapping(inner, what) for name, inner in _mapping(value, what).items()}


def _mappings(value: object, what: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise worded(Garbage, because("reply.not_list", what=what))
    return [_mapping(inner, what) for inner in value]
