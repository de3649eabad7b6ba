"""`lictor generate dns`: the lines by which a host's resolver passes `.consul` on to Consul.

Where Consul's DNS is, Consul itself says (through the agent's or our own way to it). When nobody can
be asked it is the usual place, and that is told: the text is for a person to look at. Nothing here
writes a file or restarts a resolver.
"""

from __future__ import annotations

import ipaddress
from importlib.resources import files
from pathlib import Path
from string import Template

from lictor import __version__
from lictor.cli.wiring.direct import Reach, dns_of, with_consul
from lictor.cli.words import of_error
from lictor.core.errors import LictorError

#: The resolvers that are known, by the word of `--for`.
RESOLVERS = ("systemd-resolved", "dnsmasq")

_USUAL = ("127.0.0.1", 8600), "consul"


def usual_resolver() -> str:
    """The resolver that this host uses: systemd-resolved where it runs, else dnsmasq."""
    return RESOLVERS[0] if Path("/run/systemd/resolve").is_dir() else RESOLVERS[1]


def dns_forwarding(resolver: str) -> tuple[str, str]:
    """The text for a resolver; and why it is only the usual place, if nobody could be asked."""

    async def ask(reach: Reach) -> tuple[tuple[str, int], str]:
        return await dns_of(reach)

    doubt = ""
    try:
        (host, port), domain = with_consul(ask)
    except LictorError as error:
        ((host, port), domain), doubt = _USUAL, of_error(error)[0]
    template = files("lictor").joinpath("templates", "dns", f"{resolver}.conf")
    command = f"lictor generate dns --for {resolver}"
    return Template(template.read_text(encoding="utf-8")).substitute(
        made_by=f"Made by lictor {__version__}: {command}",
        command=command,
        domain=domain,
        host=_address(host),
        port=port,
        server=f"[{host}]:{port}" if ":" in host else f"{_address(host)}:{port}",
    ), doubt


def _address(host: str) -> str:
    """Resolvers want an address: they cannot look up the name of who looks up names."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "127.0.0.1" if host == "localhost" else host
