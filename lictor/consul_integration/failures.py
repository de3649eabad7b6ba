"""What Consul's refusals mean: an HTTP status and a text become one error of ours, or a reason.

Consul says much of it in prose ("No cluster leader" is a plain 500), so the prose is read here and
nowhere else. The texts are those of 1.8.7, looked at on a real server; an unknown one still becomes
a `ConsulError` with Consul's own words. It never sees a token, and cuts what it quotes to one line.
"""

from __future__ import annotations

import json
import os
import socket
import ssl

from lictor.core.errors import (
    BadRequest,
    Conflict,
    ConsulError,
    ConsulUnreachable,
    Forbidden,
    Garbage,
    NoLeader,
    NotFound,
    RateLimited,
    TooLarge,
)
from lictor.core.model.reason import Reason, because

_QUOTED = 300

_LEADERLESS = (
    "No cluster leader",
    "No known Consul servers",
    "leadership lost",
    "node is not the leader",
    "raft is already shutdown",
    # A client agent whose server has just gone: it asks another one, which may lead or not.
    "rpc error getting client",
)


class AclDisabled(BadRequest):
    """HTTP 401: this Consul has no ACLs, so there are no tokens to ask about."""

    code = "consul.acl_disabled"


def one_line(text: str, limit: int = _QUOTED) -> str:
    """`text` fit to be shown: one line, no control characters, at most `limit` characters."""
    joined = " ".join(text.split())
    clean = "".join(char for char in joined if char.isprintable())
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"


def words(error: BaseException) -> str:
    """What went wrong in one line, without a full stop; of a system call in the system's own words.

    asyncio words a refused connection as its number, "Connect call failed" and a tuple.
    """
    foreign = (ssl.SSLError, socket.gaierror)  # whose numbers are not those of errno
    if isinstance(error, OSError) and error.errno and not isinstance(error, foreign):
        return os.strerror(error.errno)
    return one_line(str(error) or type(error).__name__, 200).rstrip(".")


def _said(body: str) -> str:
    """What is said in a body; a refused transaction says it of each operation, in JSON."""
    if not body.startswith('{"Results"'):
        return body
    try:
        said = [str(error["What"]) for error in json.loads(body)["Errors"]]
    except (ValueError, LookupError, TypeError):
        return body
    return "; ".join(dict.fromkeys(said)) or body


def refusal(status: int, body: str, path: str) -> ConsulError:
    """The error for an answer that is neither 200 nor 404."""
    said = one_line(_said(body)) or f"HTTP {status}"
    if 300 <= status < 400:
        return Garbage(
            f"Consul answered {path} with a redirect ({status}), which Consul never needs."
        )
    if status == 401:
        return AclDisabled(f"Consul has no ACLs: {said}.")
    if status == 403 or "ACL not found" in body or "Permission denied" in body:
        return _forbidden(said, path)
    if status == 404:
        return NotFound(f"Consul has no {path}: {said}.")
    if status == 409:
        return Conflict(f"Consul refused {path}, because something changed meanwhile: {said}.")
    if status == 413:
        return TooLarge(f"Consul refused {path} as too large: {said}.")
    if status == 429:
        return RateLimited("Consul asks to try again later (429).")
    if "HTTP request to an HTTPS server" in body:
        return BadRequest("Consul speaks https there, not http.", code="consul.bad_address")
    if 400 <= status < 500:
        return BadRequest(f"Consul refused {path}: {said}.")
    if status >= 500:
        return _server_side(status, body, said, path)
    return Garbage(f"Consul answered {path} with the unexpected status {status}.")


def _forbidden(said: str, path: str) -> Forbidden:
    if "ACL not found" in said:
        return Forbidden(
            "Consul does not know the token that Lictor uses.",
            hint="It was revoked or mistyped: check CONSUL_HTTP_TOKEN.",
            unknown_token=True,
        )
    return Forbidden(
        f"Consul does not allow {path}: {said}.", hint="The token lacks a rule for it."
    )


def _server_side(status: int, body: str, said: str, path: str) -> ConsulError:
    if any(sign in body for sign in _LEADERLESS):
        return NoLeader(
            "Consul's servers have no leader at present, or Consul's own agent does not reach them."
        )
    if "does not have associated TTL" in body:  # newer versions say 404 for an unknown check
        return NotFound(f"Consul has no such TTL check: {said}.")
    if "No path to datacenter" in body:
        return BadRequest(f"Consul does not know that datacenter: {said}.")
    if status in {502, 503, 504}:
        return ConsulUnreachable(f"Consul is not available ({status}): {said}.")
    return ConsulError(f"Consul failed at {path}: {said}.")


def session_is_over(error: ConsulError) -> bool:
    """Whether a lock was refused because Consul does not know its session (any more)."""
    return "invalid session" in error.message


def query_name_is_taken(error: ConsulError) -> bool:
    """Whether a prepared query was refused because another has its name, seen by us or not."""
    return "aliases an existing query name" in error.message


def reason_of(error: ConsulError) -> Reason:
    """The reason that an error gives: its code, and its own message as the only parameter.

    A token that Consul does not know has a code of its own, because the remedy differs.
    """
    if isinstance(error, Forbidden) and error.unknown_token:
        return because("consul.unknown_token")
    return because(error.code, message=error.message)
