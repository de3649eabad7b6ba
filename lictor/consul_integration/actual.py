"""Actual state for other nodes to see: `<prefix>/actual/<node>/<service>` in KV.

It is the adapter behind `ports.ActualSink`. KV is replicated by raft, so only what differs is
written, and in as few transactions as fit. It never reads other nodes' records, keeps no pace of its
own (the caller publishes at most once a second) and never decides that a service is gone: None does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lictor.consul_integration.batches import batches
from lictor.consul_integration.client import ConsulClient, kv_remove, kv_set
from lictor.consul_integration.lease import Lease
from lictor.core.model.names import BadName, ServiceKey


class KvActual:
    """`ports.ActualSink` over KV.

    The first `publish` (and the first one after `forget`) reads what is there, so that a restart of
    the agent writes only what changed meanwhile.
    """

    def __init__(
        self, client: ConsulClient, node: str, *, prefix: str = "lictor", lease: Lease | None = None
    ) -> None:
        self._client = client
        self._lease = lease
        self._base = f"{prefix.strip('/')}/actual/{node}/"
        self._written: dict[ServiceKey, str] | None = None

    def forget(self) -> None:
        """Trust no cache: Consul was away, and may have lost what was written."""
        self._written = None

    async def published(self) -> frozenset[ServiceKey]:
        """The services that have a record now, those of an earlier agent included."""
        return frozenset(await self._cache())

    async def publish(self, records: Mapping[ServiceKey, Mapping[str, object] | None]) -> None:
        """Write the records that differ from what is there; None deletes.

        Raises `ConsulError`; then nothing is taken for written, and the same call may be repeated.
        """
        if self._lease is not None:
            self._lease.require()
        written = await self._cache()
        wanted = {key: None if value is None else _text(value) for key, value in records.items()}
        changed = {key: text for key, text in wanted.items() if written.get(key) != text}
        try:
            for batch in batches(changed):
                await self._client.kv_transaction([self._operation(*item) for item in batch])
                _apply(written, batch)
        except BaseException:
            # Also when cancelled: the answer may be lost after the deed was done.
            self.forget()
            raise

    def _operation(self, key: ServiceKey, text: str | None) -> Mapping[str, Any]:
        path = f"{self._base}{key}"
        return kv_remove(path) if text is None else kv_set(path, text)

    async def _cache(self) -> dict[ServiceKey, str]:
        if self._written is None:
            _, items = await self._client.kv_list(self._base)
            found: dict[ServiceKey, str] = {}
            for item in items:
                try:
                    key = ServiceKey.parse(item.key.removeprefix(self._base))
                except BadName:
                    continue  # nothing of ours
                found[key] = item.value.decode(errors="replace")
            self._written = found
        return self._written


def _apply(written: dict[ServiceKey, str], batch: Sequence[tuple[ServiceKey, str | None]]) -> None:
    for key, text in batch:
        if text is None:
            written.pop(key, None)
        else:
            written[key] = text


def _text(record: Mapping[str, object]) -> str:
    # Sorted, so that equal records are equal texts.
    return json.dumps(record, ensure_ascii=False, sort_keys=True, default=str)
