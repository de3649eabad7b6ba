"""The HTTP side of one agent: the socket it listens on, its certificate, and how it is put together.

The socket is bound, and the secret and the certificate are looked at, before anything is started: a
taken port or a key that cannot be read is one clear sentence and no half-started agent. Everything
heavy is imported in a thread, when the first services are already starting.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import ssl

from lictor.cli.wiring.reception import Reception
from lictor.core.config.settings import TlsSettings, WebSettings
from lictor.core.errors import AgentExists, OperationFailed
from lictor.core.probes.ports import port_holder
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.operations import Operations

_ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not bound


def listen(web: WebSettings) -> socket.socket:
    """Bind before anything is started, so that a taken port is one clear sentence."""
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((web.host, web.port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        holder = port_holder(web.host, web.port) if web.port else None
        who = f" is taken by {holder[1]} (pid {holder[0]})" if holder else f": {error.strerror}"
        raise AgentExists(
            f"The agent's HTTP port {web.host}:{web.port}{who}.",
            hint="Set web.port in config.yml (0 takes any free one), or web.enabled: false.",
            code="web.port_taken",
        ) from error
    listener.setblocking(False)
    return listener


def certificate(tls: TlsSettings | None) -> ssl.SSLContext | None:
    """The certificate and its key, read now. Raises `OperationFailed` for files that are no good."""
    if tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        if tls.key.stat().st_mode & 0o004:
            raise OperationFailed(
                f"The key of the web server, {tls.key}, can be read by everybody.",
                hint=f"chmod 0600 {tls.key}",
                code="web.tls",
            )
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise OperationFailed(
            f"The certificate of the web server cannot be used ({tls.cert}, {tls.key}): {why}.",
            hint="web.tls names two PEM files: the certificate with its chain, and the key.",
            code="web.tls",
        ) from error
    return context


def _no_password() -> str:
    """An encrypted key would ask on the terminal, where nobody sits."""
    raise ValueError("the key is encrypted")


class Website:
    """What the agent runs as its HTTP side. `use` comes before `serve`."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        self._listener = listener
        self._context = context
        self._parts: tuple[Reception, Operations] | None = None

    def use(self, reception: Reception, operations: Operations) -> None:
        """Who is let in, and what can be asked."""
        self._parts = reception, operations

    async def serve(self, agent: Agent) -> None:
        """Serve until cancelled."""
        assert self._parts is not None  # noqa: S101 - the composition root has said who
        reception, operations = self._parts
        office = await reception.office()
        guard = await asyncio.to_thread(importlib.import_module, "lictor.web.guarded")
        pages = await asyncio.to_thread(importlib.import_module, "lictor.web.app")
        server = await asyncio.to_thread(importlib.import_module, "lictor.web.serve")
        app = pages.make_app(agent, operations)
        guard.furnish(app, office)
        names = [self._announce(agent), agent.config.agent.advertise or ""]
        around = guard.guarded(app, office, agent.config.web, names)
        await server.serve(
            around, self._listener, self._context, at_end=lambda: pages.api.close(app)
        )

    def _announce(self, agent: Agent) -> str:
        """Tell Consul and people where we are; returns the host of that URL."""
        host, port = self._listener.getsockname()[:2]
        shown: str = agent.config.agent.advertise or "127.0.0.1" if host in _ANYWHERE else host
        scheme = "http" if self._context is None else "https"
        where = f"[{shown}]" if ":" in shown else shown
        agent.web_url = f"{scheme}://{where}:{port}"
        agent.consul.wake()
        agent.bell.ring()
        return shown
