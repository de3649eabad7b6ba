"""Runs one agent in the foreground until it is told to stop.

The order matters for speed: what the first services need is loaded first; HTTP clients, the web
framework and the log formatter come when the services are already starting.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lictor.cli.wiring import agent_log, cluster, signals
from lictor.cli.wiring.certificates import Certificate
from lictor.cli.wiring.configured import find_config, read_config, remember_ports
from lictor.cli.wiring.consul import link_for
from lictor.cli.wiring.reception import Reception, dashboard_url
from lictor.cli.wiring.ways import Ways
from lictor.cli.wiring.website import Website, listen
from lictor.consul_integration.link import Link
from lictor.core.config.settings import Config
from lictor.core.drivers.oom import unspare_child
from lictor.core.drivers.spawn import default_signals
from lictor.core.drivers.tree import become_subreaper
from lictor.core.errors import ConsulUnreachable, LictorError
from lictor.core.model.desired import DesiredState
from lictor.core.model.reason import because
from lictor.core.model.state import Phase
from lictor.core.probes.command import probe_command
from lictor.core.probes.gpu_helper import GpuHelper
from lictor.core.probes.host import ProcUsage
from lictor.core.probes.ports import port_holder, port_taken
from lictor.core.probes.prober import LictorProber
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.clock import SystemClock
from lictor.core.runtime.control import ControlServer
from lictor.core.runtime.equipment import Equipment
from lictor.core.runtime.host import own
from lictor.core.runtime.host.notify import Herald, Notifier
from lictor.core.runtime.operations import Operations
from lictor.core.runtime.registry.membership import identity, refuse_second
from lictor.core.runtime.storage.datadir import DataDir
from lictor.core.runtime.storage.store import SqliteStore
from lictor.core.runtime.supervision.recycler import Recycler
from lictor.core.worded import worded
from lictor.web.auth.secretfile import session_secret as check_secret

_BANNER_AT_LAST = 5.0  # seconds after which it is said without what has not come yet


def run(explicit: str | None, on_term: str | None = None) -> int:
    """`lictor up` in the foreground. Raises `LictorError` for what keeps it from starting.

    `on_term` (stop or keep) overrides `agent.on_term` for as long as this agent lives.
    """
    waiting = agent_log.begin()
    own.begin()
    path = find_config(explicit)
    config = read_config(path)
    datadir = DataDir.open(config.agent.data_dir)
    try:
        remember_ports(config)
        check_secret(datadir.path)
        tls = config.web.tls if config.web.enabled else None
        certificate = Certificate(tls) if tls is not None else None
        web = Website(listen(config.web), certificate) if config.web.enabled else None
        default_signals()
        become_subreaper()
        notifier = Notifier.from_environment(os.environ)
        with asyncio.Runner(loop_factory=_fast_loop()) as runner:
            return runner.run(
                _run(
                    path,
                    config,
                    datadir,
                    web,
                    lambda: agent_log.finish(waiting),
                    notifier=notifier,
                    on_term=on_term,
                )
            )
    finally:
        datadir.close()


async def _run(
    path: Path,
    config: Config,
    datadir: DataDir,
    web: Website | None,
    load_log: Callable[[], None],
    *,
    notifier: Notifier | None,
    on_term: str | None,
) -> int:
    agent_id, node = datadir.agent_id(), datadir.node(config.agent.node)
    link = link_for(config.consul, data_dir=datadir.path, node=node)
    _require_consul(config, link)
    refuse_second(node, identity(datadir), await asyncio.to_thread(link.holder))
    store = SqliteStore(datadir.path / "state.db")
    prober = _prober()
    ways = Ways(datadir.logs, agent_id, node=node)
    tools = Equipment(
        datadir=datadir,
        store=store,
        clock=SystemClock(),
        drivers=ways.all(),
        prober=prober,
        usage=ProcUsage(),
        link=link,
        load=lambda: _reread(path),
        port_holder=_who_holds,
        web=web.serve if web is not None else None,
        gpus=GpuHelper(),
    )
    agent = Agent(config, tools)
    herald = _herald(agent, notifier) if notifier is not None else None
    reload = partial(_reload, agent, notifier, web)
    operations = Operations(agent, reload)
    reception = _reception(agent, operations, web)
    control = ControlServer(
        datadir.socket, partial(reception.watch, operations), group=config.agent.socket_group
    )

    async def opened() -> None:
        gc.freeze()  # what was made so far stays: no later pass has to look at it
        gc.enable()
        await control.start()
        if herald is not None:
            agent.background.keep("notify", herald.attend)
        await asyncio.to_thread(load_log)
        _settle_in(agent, ways)
        agent.background.keep("people", reception.attend, once=True)
        agent.background.keep("history", operations.foresight.watch)

    signals.take(agent, on_term, partial(_hang_up, reload))
    try:
        await agent.run(opened)
    finally:
        if herald is not None:
            herald.stopping()
        for part in (control, reception, prober, link):
            await part.close()
        _close(ways, store, web, notifier)
    return 0


def _close(*parts: Ways | SqliteStore | Website | Notifier | None) -> None:
    for part in parts:
        if part is not None:
            part.close()
    signals.ignore()


def _reception(agent: Agent, operations: Operations, web: Website | None) -> Reception:
    """Who knows the people; and what only the composition root can answer."""
    reception = Reception(agent)
    reception.add_to(operations)
    cluster.add_to(operations, agent)
    if web is not None:
        web.use(reception, operations)
    return reception


def _require_consul(config: Config, link: Link) -> None:
    if config.consul.embedded == "always" and link.problem is not None:
        required, brings = because("consul.own_required"), because("next.consul_program")
        raise worded(ConsulUnreachable, required, link.problem, hint=brings)


def _prober() -> LictorProber:
    # A program that asks is no part of the agent: the kernel may end it first.
    return LictorProber({"command": partial(probe_command, spawned=unspare_child)})


def _settle_in(agent: Agent, ways: Ways) -> None:
    """What can wait until the first services are starting."""
    for note in agent.config.notes:
        _talk(str(note))
    problem = agent.tools.link.problem
    if problem is not None:
        from lictor.cli.words import say, sentence

        _talk(say("up.no_consul", problem=sentence(views.told(problem))))
    ways.begin(agent)
    recycler = Recycler(agent.reconciler, agent.usage)
    agent.background.keep("recycle", recycler.watch)
    agent.background.keep("orphans", lambda: own.collect_orphans(ways.process))
    agent.background.keep("banner", lambda: _banner(agent), once=True)


def _reread(path: Path) -> Config:
    config = read_config(path)
    remember_ports(config)
    return config


def _herald(agent: Agent, notifier: Notifier) -> Herald:
    """Who tells systemd; `agent` is asked each time, nothing is kept."""

    def status() -> str:
        if agent.ending:
            return views.say(because("agent.stopping"))
        wanted = [
            key
            for key, want in agent.reconciler.desired.items()
            if want.state is not DesiredState.STOPPED
        ]
        actual = agent.reconciler.actual()
        ready = sum(key in actual and actual[key].phase is Phase.READY for key in wanted)
        return views.say(because("agent.ready_count", ready=ready, wanted=len(wanted)))

    return Herald(notifier, status=status, change=agent.bell.wait, ending=lambda: agent.ending)


def _reload(agent: Agent, notifier: Notifier | None, web: Website | None) -> dict[str, Any]:
    if web is not None:
        web.reloaded(agent)
    with notifier.reloading() if notifier is not None else contextlib.nullcontext():
        changes = agent.reload()
    return {
        "added": [str(key) for key in changes.added],
        "removed": [str(key) for key in changes.removed],
        "restart": [str(key) for key in changes.restart],
        "in_place": [str(key) for key in changes.in_place],
        "agent_restart": list(changes.agent_restart),
        "notes": [str(note) for note in agent.config.notes],
    }


def _hang_up(reload: Callable[[], dict[str, Any]]) -> None:
    try:
        reload()
    except Exception as error:  # noqa: BLE001 - a bad file changes nothing and ends nothing
        from lictor.cli.words import of_error, say

        why = " ".join(of_error(error)) if isinstance(error, LictorError) else str(error)
        _talk(say("up.not_reloaded", why=why.strip()))


def _who_holds(host: str, port: int) -> tuple[int, str] | None:
    """Pid and program behind a port; without root, another user's program has no name for us."""
    if not port_taken(host, port):
        return None
    return port_holder(host, port) or (0, "another user's program")


async def _banner(agent: Agent) -> None:
    """Say once where everything is: when it is there, or what is there after a while, then the rest."""
    loop, said = asyncio.get_running_loop(), set[str]()
    late = loop.time() + _BANNER_AT_LAST
    while not _all_there(agent):
        left = late - loop.time()
        if left <= 0:
            # (what is wrong with Consul is said once: its words change from try to try)
            lines = _places(agent) if said else _addresses(agent)
            said.update(_tell(line for line in lines if line not in said))
        await agent.bell.wait(1.0 if said else min(1.0, left))
    _tell(line for line in _addresses(agent) if line not in said)


def _tell(lines: Iterable[str]) -> list[str]:
    told = list(lines)
    if told:
        _talk("\n".join(told))
    return told


def _addresses(agent: Agent) -> Iterator[str]:
    """The lines of the banner, as far as they are true now."""
    from lictor.cli.words import say, sentence

    consul, link = agent.consul, agent.tools.link
    yield say("banner.node", node=agent.node, data_dir=str(agent.tools.datadir.path))
    if link.address is not None and consul.state.code != "consul.ok":
        yield f"  {sentence(views.told(consul.state))}"
    yield from _places(agent)


def _places(agent: Agent) -> Iterator[str]:
    """The addresses alone."""
    from lictor.cli.words import say

    consul, link = agent.consul, agent.tools.link
    if consul.about and (link.address is None or consul.state.code == "consul.ok"):
        if consul.about.get("ui"):
            yield say("banner.ui", url=str(consul.about["ui"]))
        if link.address is not None:
            yield say("banner.api", url=link.address)
        if consul.about.get("dns"):
            host, _, port = str(consul.about["dns"]).rpartition(":")
            domain = consul.about.get("domain") or "consul"
            yield say("banner.dns", host=host, port=port, domain=domain)
    dashboard = dashboard_url(agent)
    if dashboard is not None:
        yield say("banner.web", url=f"{dashboard}/")


def _all_there(agent: Agent) -> bool:
    """Consul and the HTTP side answer, as far as there is to be one of them."""
    consul, tools = agent.consul, agent.tools
    known = consul.state.code == "consul.ok" and bool(consul.about)
    return (known or tools.link.address is None) and (tools.web is None or bool(agent.web_url))


def _talk(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
