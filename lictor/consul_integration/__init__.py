"""Consul's adapter: the only place in Lictor that knows Consul.

It stands between `core.ports` (what the agent needs) and Consul's HTTP API and DNS (what there is).
Nothing outside this package imports `consul`, and no error of a library leaves it: everything
arrives as `lictor.core.errors.ConsulError` or as `Unknown` with a reason.

| module | what it is |
|---|---|
| `address` | where Consul is and how to get in: URL, TLS, token, from config and environment |
| `transport` | one HTTP request: deadline, two pools, size cap, errors mapped |
| `failures` | what Consul's refusals mean: status and prose to an error, an error to a reason |
| `endpoints` | py-consul's endpoint classes over that transport |
| `client` | typed facade over the endpoints that Lictor uses |
| `watch` | the one blocking-query loop |
| `registry` | `ports.Registry`: what the local Consul agent holds, and writes to it |
| `snapshot` | keys of KV to a `KvSnapshot`; pure |
| `document` | text of one KV document to `Override` or `Reason`; pure |
| `edit` | a change of one document; pure |
| `desired` | `ports.DesiredSource`: KV below `<prefix>/desired/`, sentinels, restore |
| `memory` | what is remembered of the last good read of KV |
| `actual` | `ports.ActualSink`: KV below `<prefix>/actual/<node>/` |
| `discovery` | `ports.Discovery`: who offers a service, whatever its health |

It never decides what should run: it reads, writes and tells the truth about both. Importing it
costs about a tenth of a second (py-consul brings `requests`), so `core` and light commands do not.
"""
