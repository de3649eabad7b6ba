"""The HTTP side of one agent: the socket it listens on, its certificate, and how it is put together.

The socket is bound, and the secret and the certificate are looked at, before anything is started: a
taken port or a key that cannot be read is one clear sentence and no half-started agent. Everything
heavy is imported in a thread, when the first services are already starting.
"""

from __future__ import annotations

import asyncio
import importlib
import socket

from lictor.cli.wiring.certificates import Certificate
from lictor.cli.wiring.reception import Reception
from lictor.core.config.settings import WebSettings
from lictor.core.errors import AgentExists
from lictor.core.model.reason import Reason, because
from lictor.core.probes.ports import port_holder
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.operations import Operations
from lictor.core.worded import worded

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
        pid, program = holder or (0, "")
        why = because(
            "web.port_taken_by" if holder else "web.port_unusable",
            host=web.host,
            port=web.port,
            program=program,
            pid=pid,
            error=str(error.strerror),
        )
        hint = because("next.web_port")
        raise worded(AgentExists, why, hint=hint, code="web.port_taken") from error
    listener.setblocking(False)
    return listener


class Website:
    """What the agent runs as its HTTP side. `use` comes before `serve`."""

    def __init__(self, listener: socket.socket, certificate: Certificate | None) -> None:
        self._listener = listener
        self._certificate = certificate
        self._parts: tuple[Reception, Operations] | None = None

    def use(self, reception: Reception, operations: Operations) -> None:
        """Who is let in, and what can be asked."""
        self._parts = reception, operations

    def close(self) -> None:
        """Close the socket that it was made with."""
        self._listener.close()

    def reloaded(self, agent: Agent) -> None:
        """Whoever reloads the config may have put a new certificate there."""
        if self._certificate is not None:
            told = self._certificate.renew(asked=True)
            if told is not None:
                _tell(agent, told)

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
        certificate = self._certificate
        if certificate is not None:
            agent.background.keep(
                "certificate", lambda: certificate.watch(lambda told: _tell(agent, told))
            )
        context = certificate.context if certificate is not None else None
        await server.serve(around, self._listener, context, at_end=lambda: pages.api.close(app))

    def _announce(self, agent: Agent) -> str:
        """Tell Consul and people where we are; returns the host of that URL."""
        host, port = self._listener.getsockname()[:2]
        shown: str = agent.config.agent.advertise or "127.0.0.1" if host in _ANYWHERE else host
        scheme = "http" if self._certificate is None else "https"
        where = f"[{shown}]" if ":" in shown else shown
        agent.web_url = f"{scheme}://{where}:{port}"
        agent.consul.wake()
        agent.bell.ring()
        return shown


def _tell(agent: Agent, told: Reason) -> None:
    agent.record("config", "", told)
    agent.bell.ring()
