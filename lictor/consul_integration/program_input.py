"""What a program gives to `ConsulServiceRegistry`, judged before anything is sent. Pure.

Consul takes nearly any name, port and tag with a 200 and then fails to resolve it (measured on
1.8.7), so each value is looked at here, and the message names the one that is wrong.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Collection, Mapping
from typing import TypeGuard
from urllib.parse import urlsplit

from lictor.core.errors import UsageError
from lictor.core.model.names import RESERVED, BadName, canonical, is_label

_OWNER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TAG = re.compile(r"[A-Za-z0-9._:=/-]{1,63}")
_META_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")  # Consul's own rule and limit
_META_VALUE, _META_KEYS = 512, 60  # Consul takes 64 keys; a few are ours


class BadArgument(UsageError, ValueError):
    """What was given cannot be registered; the message names it and says why. Nothing was sent."""

    code = "registry.bad_argument"


def check_owner(owner: object) -> None:
    """Whose the entries are: a short word, because it stands in Meta."""
    if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
        raise BadArgument(f"owner={owner!r} must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")


def check_call_time(timeout: object) -> None:
    """Seconds for one call."""
    if not _is_number(timeout) or not 0 < timeout < math.inf:
        raise BadArgument(f"timeout={timeout!r} must be more than 0 seconds.")


def check_way(address: object, token: object) -> None:
    """Where Consul is and how to get in, as far as they are texts; more is judged where it is used."""
    if address is not None and not isinstance(address, str):
        raise BadArgument(f"address={address!r} must be a text, as http://127.0.0.1:8500.")
    if token is not None and not (isinstance(token, str) and token.isprintable()):
        raise BadArgument("token must be a text of one line.")  # never shown


def check_id(service_id: object) -> str:
    """An id as `register_service` gave it; one that Consul could not be asked about is none."""
    if not isinstance(service_id, str) or not service_id or not _can_be_asked(service_id):
        raise BadArgument(f"service_id={service_id!r} is no id.")
    return service_id


def service_label(given: object) -> str:
    """The DNS label that a name becomes; raises `BadArgument`, as all of these do."""
    try:
        name = canonical(given) if isinstance(given, str) else ""
    except BadName as error:
        raise BadArgument(f"service_name: {error}.") from None
    if not name:
        raise BadArgument(f"service_name={given!r} must be a text.")
    if name in RESERVED:
        raise BadArgument(f"service_name={given!r} is reserved.")
    return name


def sought_names(given: object) -> list[str]:
    """The names to look for, ours first: others register what is not DNS-safe, and it is found."""
    if not isinstance(given, str) or given != given.strip() or not _can_be_asked(given):
        raise BadArgument(f"service_name={given!r} is no name of a service.")
    try:
        return list(dict.fromkeys((canonical(given), given)))
    except BadName:
        return [given]


def _can_be_asked(text: str) -> bool:
    """Whether it can stand in the path of a URL: Consul answers `a/../b` with a redirect."""
    parts = text.split("/")
    return bool(text) and text.isprintable() and "." not in parts and ".." not in parts


def check_host(host: object) -> None:
    """An address or host name that others can connect to."""
    if not isinstance(host, str) or not host:
        raise BadArgument(f"host={host!r} must be an address or a host name.")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        # No host's name ends in a number (RFC 1123 §2.1): 256.1.1.1 is an address mistyped.
        good = all(is_label(label.lower()) for label in labels) and not labels[-1].isdigit()
        if len(host) > 253 or not good:
            raise BadArgument(f"host={host!r} is neither an address nor a host name.") from None
        return
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise BadArgument(f"host={host!r} means something on this host only: DNS has no scopes.")
    if address.is_unspecified:
        raise BadArgument(
            f"host={host!r} means every address of this host.",
            hint="Give the one that others connect to.",
        )


def check_port(port: object) -> None:
    """A whole number from 1 to 65535."""
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        raise BadArgument(f"port={port!r} must be a whole number from 1 to 65535.")


def check_of(service_id: str, host: str, port: int, url: object) -> tuple[str, str, str]:
    """Id, kind and target of the check."""
    if url is None:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"{service_id}:tcp", "tcp", target
    if not isinstance(url, str) or not url.isprintable() or " " in url:
        raise BadArgument(f"health_check_url={url!r} is no URL.")
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise BadArgument(
            f"health_check_url={url!r} is no URL that Consul can ask.",
            hint="Write it as http://127.0.0.1:5000/health; None checks the port only.",
        )
    return f"{service_id}:http", "http", url


def check_times(interval: object, check_timeout: object, reap: object) -> None:
    """Seconds, within what Consul takes."""
    if not _within(interval, 1, 86400):
        raise BadArgument(f"interval={interval!r} must be from 1 to 86400 seconds.")
    if not _within(check_timeout, 0.1, 3600):
        raise BadArgument(f"check_timeout={check_timeout!r} must be from 0.1 to 3600 seconds.")
    if reap is not None and not _within(reap, 60, 31536000):
        raise BadArgument(
            f"deregister_critical_after={reap!r} must be from 60 seconds to a year, or None."
        )


def _within(value: object, least: float, most: float) -> bool:
    return _is_number(value) and least <= value <= most


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def tags_of(given: object) -> tuple[str, ...]:
    """Tags that DNS and the UI can show."""
    if isinstance(given, str | bytes) or not isinstance(given, Collection):
        raise BadArgument("tags must be a list of texts, not one text.")
    tags: list[str] = []
    for tag in given:
        if not isinstance(tag, str) or not _TAG.fullmatch(tag):
            raise BadArgument(f"The tag {tag!r} has characters that a tag cannot have.")
        tags.append(tag)
    return tuple(tags)


def meta_of(given: object) -> dict[str, str]:
    """Meta within Consul's limits, without the keys that are ours."""
    if not isinstance(given, Mapping):
        raise BadArgument("meta must be a mapping of texts to texts.")
    if len(given) > _META_KEYS:
        raise BadArgument(f"meta has more than {_META_KEYS} keys.")
    kept: dict[str, str] = {}
    for key, value in given.items():
        if not isinstance(key, str) or not _META_KEY.fullmatch(key):
            raise BadArgument(f"The key {key!r} of meta has characters that Consul does not take.")
        if key.startswith(("lictor-", "consul-")):
            raise BadArgument(f"The key {key!r} of meta is reserved.")
        if not isinstance(value, str) or _octets(value) > _META_VALUE:
            raise BadArgument(f"meta[{key!r}] must be a text of at most {_META_VALUE} bytes.")
        kept[key] = value
    return kept


def _octets(text: str) -> float:
    """How many it takes in UTF-8; too many for what cannot be written in it."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return math.inf
