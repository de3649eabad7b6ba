"""What a program gives to `ConsulServiceRegistry`, judged before anything is sent. Pure.

Consul takes nearly any name, port and tag with a 200 and then fails to resolve it (measured on
1.8.7), so each value is looked at here, and the message names the one that is wrong.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from lictor.core.errors import UsageError
from lictor.core.model.names import RESERVED, BadName, canonical, is_label

_TAG = re.compile(r"[A-Za-z0-9._:=/-]{1,63}")
_META_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")  # Consul's own rule and limit
_META_VALUE, _META_KEYS = 512, 60  # Consul takes 64 keys; a few are ours


class BadArgument(UsageError, ValueError):
    """What was given cannot be registered; the message names it and says why. Nothing was sent."""

    code = "registry.bad_argument"


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


def sought_name(given: object) -> str:
    """A name to look for: others register names that are not DNS-safe, and those can be found."""
    if not isinstance(given, str) or not given or given != given.strip() or not given.isprintable():
        raise BadArgument(f"service_name={given!r} is no name of a service.")
    try:
        return canonical(given)
    except BadName:
        return given


def check_host(host: object) -> None:
    """An address or host name that others can connect to."""
    if not isinstance(host, str) or not host:
        raise BadArgument(f"host={host!r} must be an address or a host name.")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        if len(host) > 253 or not all(is_label(label.lower()) for label in labels):
            raise BadArgument(f"host={host!r} is neither an address nor a host name.") from None
        return
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
    return isinstance(value, int | float) and least <= value <= most


def tags_of(given: Sequence[object]) -> tuple[str, ...]:
    """Tags that DNS and the UI can show."""
    if isinstance(given, str):
        raise BadArgument("tags must be a list of texts, not one text.")
    tags: list[str] = []
    for tag in given:
        if not isinstance(tag, str) or not _TAG.fullmatch(tag):
            raise BadArgument(f"The tag {tag!r} has characters that a tag cannot have.")
        tags.append(tag)
    return tuple(tags)


def meta_of(given: Mapping[str, object]) -> dict[str, str]:
    """Meta within Consul's limits, without the keys that are ours."""
    if len(given) > _META_KEYS:
        raise BadArgument(f"meta has more than {_META_KEYS} keys.")
    kept: dict[str, str] = {}
    for key, value in given.items():
        if not _META_KEY.fullmatch(str(key)):
            raise BadArgument(f"The key {key!r} of meta has characters that Consul does not take.")
        if key.startswith(("lictor-", "consul-")):
            raise BadArgument(f"The key {key!r} of meta is reserved.")
        if not isinstance(value, str) or len(value.encode()) > _META_VALUE:
            raise BadArgument(f"meta[{key!r}] must be a text of at most {_META_VALUE} bytes.")
        kept[key] = value
    return kept
