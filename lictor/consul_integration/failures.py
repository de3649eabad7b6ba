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
from lictor.core.worded import worded

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
        return worded(Garbage, because("reply.redirect", path=path, status=status))
    if status == 401:
        return worded(AclDisabled, because("reply.no_acl", said=said))
    if status == 403 or "ACL not found" in body or "Permission denied" in body:
        return _forbidden(said, path)
    if status == 404:
        return worded(NotFound, because("reply.not_found_said", path=path, said=said))
    if status == 409:
        return worded(Conflict, because("reply.changed", path=path, said=said))
    if status == 413:
        return worded(TooLarge, because("reply.too_large", path=path, said=said))
    if status == 429:
        return worded(RateLimited, because("reply.later"))
    if "HTTP request to an HTTPS server" in body:
        return worded(BadRequest, because("reply.https"), code="consul.bad_address")
    if 400 <= status < 500:
        return worded(BadRequest, because("reply.refused", path=path, said=said))
    if status >= 500:
        return _server_side(status, body, said, path)
    return worded(Garbage, because("reply.status", path=path, status=status))


def _forbidden(said: str, path: str) -> Forbidden:
    if "ACL not found" in said:
        return worded(
            Forbidden,
            because("token.unknown"),
            hint=because("next.token_revoked"),
            unknown_token=True,
        )
    forbidden = because("token.forbidden", path=path, said=said)
    return worded(Forbidden, forbidden, hint=because("next.token_rule"))


def _server_side(status: int, body: str, said: str, path: str) -> ConsulError:
    if any(sign in body for sign in _LEADERLESS):
        return NoLeader(
            "Consul's servers have no leader at present, or Consul's own agent does not reach them."
        )
    if "does not have associated TTL" in body:  # newer versions say 404 for an unknown check
        return worded(NotFound, because("reply.no_ttl", said=said))
    if "No path to datacenter" in body:
        return worded(BadRequest, because("reply.no_datacenter", said=said))
    if status in {502, 503, 504}:
        return worded(ConsulUnreachable, because("reply.unavailable", status=status, said=said))
    return worded(ConsulError, because("reply.failed", path=path, said=said))


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
