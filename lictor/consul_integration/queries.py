"""The prepared query of each group: `voice.query.consul` is the best engine that works.

It is the adapter behind `ports.GroupQueries`. A query has no Meta, so ours are known by what they ask
for: only instances whose Meta names the group (`lictor-group`), which keeps strangers of the same
service name out of the answer as well. A query of that name which asks for anything else is somebody
else's and is never touched. None is ever deleted: other nodes may have members of the group.

`OnlyPassing` stays off on purpose. It would leave out an engine that says 429 (Consul's *warning*),
which Lictor counts as working like Consul's own DNS does: then nobody would answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.failures import query_name_is_taken
from lictor.core.errors import ConsulError, Forbidden, Garbage
from lictor.core.model.reason import Reason, because
from lictor.core.worded import worded


class ConsulQueries:
    """`ports.GroupQueries` over the HTTP API. `standby` is the tag that waits, `meta` the mark."""

    def __init__(
        self, client: ConsulClient, *, standby: str = "standby", meta: str = "lictor-group"
    ) -> None:
        self._client = client
        self._standby = standby
        self._meta = meta

    async def ensure(self, names: Sequence[str]) -> Mapping[str, Reason]:
        """Make the missing queries and mend changed ones; why not, for those where it failed.

        Needs `query:write` on each name. Without the right to read a query Consul hides it and then
        says that its name is taken: that is told as such. Raises `ConsulError` for all else.
        """
        listed = await self._listed()
        trouble: dict[str, Reason] = {}
        for name in names:
            try:
                problem = await self._ensure(name, listed.get(name))
            except Forbidden as error:
                problem = because("group.query_forbidden", group=name, message=error.message)
            if problem is not None:
                trouble[name] = problem
        return trouble

    async def _ensure(self, name: str, there: Mapping[str, Any] | None) -> Reason | None:
        wanted = self._wanted(name)
        if there is None:
            try:
                await self._client.request("POST", "/v1/query", body=wanted)
            except Forbidden:
                raise
            except ConsulError as error:
                if not query_name_is_taken(error):
                    raise
                # Another node was quicker, or we may not see it.
                there = (await self._listed()).get(name)
                if there is None:
                    return because("group.query_taken", group=name)
        if there is None:
            return None
        if not self._is_ours(name, there):
            return because("group.query_taken", group=name)
        if not _covers(there, wanted):
            await self._client.request("PUT", f"/v1/query/{there['ID']}", body=wanted)
        return None

    async def _listed(self) -> Mapping[str, Mapping[str, Any]]:
        listed = await self._client.request("GET", "/v1/query")
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise worded(Garbage, because("reply.not_queries", what="query"))
        return {str(one.get("Name", "")): one for one in listed if one.get("ID")}

    def _wanted(self, name: str) -> dict[str, Any]:
        return {
            "Name": name,
            "Service": {
                "Service": name,
                "OnlyPassing": False,
                "Near": "_agent",
                "Tags": [f"!{self._standby}"],
                "ServiceMeta": {self._meta: name},
            },
            "DNS": {"TTL": "0s"},
        }

    def _is_ours(self, name: str, there: Mapping[str, Any]) -> bool:
        service = there.get("Service")
        meta = service.get("ServiceMeta") if isinstance(service, Mapping) else None
        return isinstance(meta, Mapping) and meta.get(self._meta) == name


def _covers(there: object, wanted: object) -> bool:
    """Whether `there` says all that is wanted; what Consul adds by itself does not count."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(
            _covers(there.get(key), value) for key, value in wanted.items()
        )
    return there == wanted
