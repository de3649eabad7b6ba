"""Consul's adapter: the only place in Lictor that knows Consul.

It stands between `core.ports` (what the agent needs) and Consul's HTTP API and DNS (what there is).
Nothing outside this package imports `consul`, and no error of a library leaves it: everything
arrives as `lictor.core.errors.ConsulError` or as `Unknown` with a reason.

| module | what it is |
|---|---|
| `address` | where Consul is and how to get in: URL, TLS, token, from config and environment |
| `transport` | one HTTP request: deadline, two pools, size cap, errors mapped |
| `failures` | what Consul's refusals mean: status and prose to an error, an error to a reason |
| `handshake` | what a failed TLS handshake means |
| `endpoints` | py-consul's endpoint classes over that transport |
| `client` | typed facade over the endpoints that Lictor uses |
| `batches` | many writes as few transactions; pure |
| `watch` | the one blocking-query loop |
| `repeated` | an endpoint read every few seconds, made sense of when it says something new |
| `registry` | `ports.Registry`: what the local Consul agent holds, and writes to it |
| `snapshot` | keys of KV to a `KvSnapshot`; pure |
| `document` | text of one KV document to `Override` or `Reason`; pure |
| `edit` | a change of one document; pure |
| `hold_documents` | orders to hold or release a service of another node; pure |
| `desired` | `ports.DesiredSource`: KV below `<prefix>/desired/`, sentinels, restore |
| `memory` | what is remembered of the last good read of KV |
| `actual` | `ports.ActualSink`: KV below `<prefix>/actual/<node>/` |
| `inspection` | `ports.Inspection`: what the token may do, the node in the catalog, what DNS answers |
| `dns` | what Consul's DNS answers, asked as any program would ask |
| `checkup` | what `lictor doctor` asks of Consul |
| `lease` | one agent per node name: KV below `<prefix>/nodes/`, locked by a session |
| `nodes` | `ports.Nodes`: all nodes, and what each last wrote |
| `peek` | one look at a node's lease before anything is started |
| `discovery` | `ports.Discovery`: who offers a service, whatever its health |
| `queries` | `ports.GroupQueries`: the prepared query of each group |
| `attic` | `ports.Attic`: entries that were left over |
| `program` | `ConsulServiceRegistry`: the same for other Python programs, without asyncio |
| `program_input` | what such a program gives, judged; pure |
| `background_loop` | a loop in a thread, for callers that have none |
| `link` | `ports.ConsulLink`: which Consul, and the adapters over it |
| `embedded` | whether a Consul of our own is used, and how it is run |
| `embedded_config` | its ports, token and configuration file |
| `embedded_acl` | the plain HTTP calls around it |

It never decides what should run: it reads, writes and tells the truth about both. Importing it
costs about a tenth of a second (py-consul brings `requests`), so `core` and light commands do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lictor.consul_integration.program import ConsulServiceRegistry
    from lictor.consul_integration.program_input import BadArgument

__all__ = ["BadArgument", "ConsulServiceRegistry"]


def __getattr__(name: str) -> Any:
    """`from lictor.consul_integration import ConsulServiceRegistry`, loaded when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lictor.consul_integration import program  # noqa: PLC0415 - it costs a tenth of a second

    return getattr(program, name)
