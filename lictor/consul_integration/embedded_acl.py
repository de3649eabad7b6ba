"""The few plain HTTP calls around the embedded Consul: is one there, and may everybody read it.

They are made before or apart from the agent's own client: the first decides whether that client
will talk to a Consul of ours at all, the second runs once in a thread after ours came up. Blocking,
standard library only, and imported only when a call is due (`http.client` costs 20 ms). It never
retries beyond its deadline and never puts a token into a message.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from lictor.consul_integration.failures import words
from lictor.core.errors import (
    ConsulError,
    ConsulTimeout,
    ConsulUnreachable,
    Forbidden,
    Garbage,
    NoLeader,
)

#: The accessor that every Consul gives its anonymous token
#: (developer.hashicorp.com/consul/docs/secure/acl/token, "Anonymous token").
ANONYMOUS = "00000000-0000-0000-0000-000000000002"

POLICY = "lictor-anonymous-read"
_DESCRIPTION = "Everybody on this host may read: catalog, health, DNS, UI. Managed by Lictor."
RULES = "\n".join(
    f'{kind}_prefix "" {{ policy = "read" }}'
    for kind in ("node", "service", "key", "agent", "query", "session")
)

Usable: TypeAlias = Literal["usable", "waiting", "forbidden", "nothing"]

_CALL_S = 10.0  # longer than the 7 s for which Consul holds a call while it has no leader
_PAUSE_S = 0.25
_UNKNOWN_S = 5.0


def probe(address: str, token: str | None, *, deadline: float = 0.5) -> Usable:
    """What answers at `address`, within `deadline` seconds for each of at most two questions.

    `usable`: a Consul that would let us write (ACLs are off, or the token is good). `waiting`: a
    Consul without a leader at present. `forbidden`: a Consul that does not know us, for which the
    anonymous token counts. `nothing`: nobody, or no Consul.
    """
    try:
        status, answer = _call(address, "GET", "/v1/acl/token/self", token, timeout=deadline)
    except ConsulUnreachable:
        return "nothing"
    except ConsulError:
        # Without a leader this call is held for seconds; the next one is answered at once.
        return "waiting" if _is_consul(address, deadline) else "nothing"
    if status == 401:  # "ACL support disabled"
        return "usable" if _is_consul(address, deadline) else "nothing"
    if status == 200 and isinstance(answer, dict) and "AccessorID" in answer:
        return "forbidden" if answer["AccessorID"] == ANONYMOUS else "usable"
    if not _is_consul(address, deadline):
        return "nothing"
    return "forbidden" if status == 403 else "waiting"


def _is_consul(address: str, deadline: float) -> bool:
    """Whether status/leader answers as Consul's does: a JSON string, with or without a leader."""
    try:
        status, answer = _call(address, "GET", "/v1/status/leader", None, timeout=deadline)
    except ConsulError:
        return False
    return status == 200 and isinstance(answer, str)


def bootstrap_acl(address: str, token: str, *, deadline: float = 30.0) -> bool:
    """Let the anonymous token of a Consul of ours read everything; True if that was a change.

    Idempotent. Blocks for up to `deadline` seconds while Consul has no leader yet; raises
    `ConsulError` (`Forbidden` when the token is not this Consul's management token).
    """
    began = time.monotonic()
    while True:
        try:
            policy, changed = _put_policy(address, token)
            return _give_to_anonymous(address, token, policy) or changed
        except (ConsulUnreachable, ConsulTimeout, NoLeader, Forbidden) as error:
            # A Consul that just came up knows no token until its first leader wrote ours down.
            patience = min(deadline, _UNKNOWN_S) if isinstance(error, Forbidden) else deadline
            if time.monotonic() - began >= patience:
                raise
            time.sleep(_PAUSE_S)


def _put_policy(address: str, token: str) -> tuple[str, bool]:
    """The id of our policy, and whether it had to be written."""
    wanted = {"Name": POLICY, "Description": _DESCRIPTION, "Rules": RULES}
    listed = _ask(address, "GET", "/v1/acl/policies", token, list)
    found = next((entry for entry in listed if entry.get("Name") == POLICY), None)
    if found is None:
        made = _ask(address, "PUT", "/v1/acl/policy", token, dict, wanted)
        return str(made["ID"]), True
    path = f"/v1/acl/policy/{found['ID']}"
    held = _ask(address, "GET", path, token, dict)
    if held.get("Rules") == RULES:
        return str(found["ID"]), False
    _ask(address, "PUT", path, token, dict, {**wanted, "ID": found["ID"]})
    return str(found["ID"]), True


def _give_to_anonymous(address: str, token: str, policy: str) -> bool:
    path = f"/v1/acl/token/{ANONYMOUS}"
    held = _ask(address, "GET", path, token, dict)
    policies = [{"ID": entry["ID"]} for entry in held.get("Policies") or ()]
    if {"ID": policy} in policies:
        return False
    body = {
        "AccessorID": ANONYMOUS,
        "Description": held.get("Description", ""),
        "Policies": [*policies, {"ID": policy}],  # what an operator added stays
    }
    _ask(address, "PUT", path, token, dict, body)
    return True


# --- one call ----------------------------------------------------------------------------------


def _ask(
    address: str,
    method: str,
    path: str,
    token: str,
    kind: Callable[[], Any],
    body: object = None,
) -> Any:
    """The answer to a call that must succeed with a value like `kind()`."""
    status, answer = _call(address, method, path, token, timeout=_CALL_S, body=body)
    if status == 403:
        raise Forbidden(
            f"Consul at {address} does not accept the management token kept in the data folder.",
            hint="Was its data folder replaced? Restart Lictor's Consul to make the token known.",
            unknown_token=True,
        )
    if status == 500:
        raise NoLeader(f"Consul at {address} has no leader yet.")
    if status != 200 or not isinstance(answer, type(kind())):
        raise Garbage(f"Consul at {address} answered {method} {path} with {status}.")
    return answer


def _call(
    address: str,
    method: str,
    path: str,
    token: str | None,
    *,
    timeout: float,
    body: object = None,
) -> tuple[int, Any]:
    """One request: status, and the JSON of the answer (None if it is none)."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(
        parts.hostname or "127.0.0.1", parts.port or 8500, timeout=timeout
    )
    payload = None if body is None else json.dumps(body)
    with closing(connection):
        try:
            connection.request(method, path, payload, {"X-Consul-Token": token} if token else {})
            answer = connection.getresponse()
            text = answer.read(1 << 20)
        except TimeoutError as error:
            raise ConsulTimeout(f"Consul at {address} did not answer in {timeout} s.") from error
        except OSError as error:
            raise ConsulUnreachable(f"No Consul answers at {address}: {words(error)}.") from error
        except http.client.HTTPException as error:
            raise Garbage(f"What answers at {address} is no Consul: {error!r}.") from error
    try:
        return answer.status, json.loads(text)
    except ValueError:
        return answer.status, None
