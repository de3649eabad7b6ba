"""`lictor doctor`: what keeps Lictor from its work, asked from outside and without an agent.

It reads the same config.yml as the agent, goes the same way to Consul with the same token, and looks
at the same ports and folders. A running agent is asked where its config is and how it reaches
Consul; nothing else depends on it. Nothing is started, written to Consul or changed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lictor.cli.client import ask_object
from lictor.cli.wiring.configured import find_config, read_config
from lictor.cli.wiring.consul import link_for
from lictor.consul_integration.checkup import examine, failed
from lictor.consul_integration.embedded import find_binary
from lictor.core.config.agent import default_data_dir
from lictor.core.config.settings import AgentSettings, Config
from lictor.core.drivers.docker.checkup import examine_engine
from lictor.core.errors import AgentUnreachable, ConfigError, ConsulError, NotPermitted
from lictor.core.model.finding import Finding, Level
from lictor.core.model.names import dns_safe
from lictor.core.model.reason import Reason, because
from lictor.core.planning.access import rules_for
from lictor.core.runtime import views
from lictor.core.runtime.host.checkup import examine_data_dir, examine_ports, examine_web


def doctor(explicit: str | None) -> list[dict[str, Any]]:
    """Every finding, as `lictor doctor -o json` prints it."""
    overview, told = _agent()
    config, found = _config(explicit, overview)
    findings = [_about_agent(overview), found]
    findings.append(examine_data_dir(config.agent.data_dir))
    findings += _here(config, overview)
    findings += examine_engine(config.services.values())
    findings += asyncio.run(_consul(config, told, overview))
    return [_row(finding) for finding in findings]


def _agent() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What a running agent says of itself, and how it reaches Consul; nothing if none answers."""
    try:
        return ask_object("overview"), ask_object("env")
    except (AgentUnreachable, NotPermitted):
        return {}, {}


def _config(explicit: str | None, overview: Mapping[str, Any]) -> tuple[Config, Finding]:
    """The config in use, or one without services where there is none."""
    try:
        path = find_config(explicit or str(overview.get("config") or "") or None)
        config = read_config(path)
    except ConfigError as error:
        missing = not explicit and not overview and _nowhere(error)
        reason = because("doctor.config_bad", error=str(error))
        found = Finding("config", Level.FAIL, reason)
        if missing:
            found = Finding("config", Level.WARN, because("doctor.config_none"))
        data_dir = default_data_dir(os.environ, is_root=os.geteuid() == 0)
        named = os.environ.get("LICTOR_DATA_DIR") or overview.get("data_dir")
        settings = AgentSettings(data_dir=Path(named) if named else data_dir)
        return Config(path=Path("config.yml"), agent=settings), found
    told = because("doctor.config_ok", path=str(config.path), services=len(config.services))
    return config, Finding("config", Level.OK, told)


def _nowhere(error: ConfigError) -> bool:
    """Whether there is no config file at all, which is no mistake in itself."""
    return not os.environ.get("LICTOR_CONFIG") and all(
        problem.line == 0 and not Path(problem.file).exists() for problem in error.problems
    )


def _about_agent(overview: Mapping[str, Any]) -> Finding:
    if not overview:
        return Finding("agent", Level.OK, because("doctor.agent_none"))
    node, pid = str(overview.get("node")), int(overview.get("pid") or 0)
    return Finding("agent", Level.OK, because("doctor.agent_ok", node=node, pid=pid))


def _here(config: Config, overview: Mapping[str, Any]) -> list[Finding]:
    pid = overview.get("pid")
    web = config.web
    held = examine_web(web.host, web.port, pid if isinstance(pid, int) else None)
    ports = examine_ports(config.services.values(), _remembered(config, "agent-id"))
    return [*ports, *(held if web.enabled else [])]


def _remembered(config: Config, name: str) -> str | None:
    """What an agent keeps in its data_dir; read only, because here nothing is to be made."""
    try:
        return (config.agent.data_dir / name).read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


async def _consul(
    config: Config, told: Mapping[str, Any], overview: Mapping[str, Any]
) -> list[Finding]:
    node = node_of(config, str(overview.get("node") or ""))
    settings, address = config.consul, told.get("CONSUL_HTTP_ADDR")
    if address:
        settings = replace(settings, address=str(address), embedded="never")
        if settings.token is None and settings.token_file is None:
            settings = replace(settings, token=told.get("CONSUL_HTTP_TOKEN"))
    elif settings.embedded == "always" or _has_own(config):
        return [_own(config)]
    try:
        # Nothing is made here, only asked: a Consul of our own begins with the agent.
        asked = replace(settings, embedded="never")
        client = await link_for(asked, data_dir=config.agent.data_dir, node=node).client()
    except ConsulError as error:
        return [failed("consul", error)]
    try:
        rules = rules_for(node, config.consul.kv_prefix, config.services.values())
        findings = await examine(client, rules)
    finally:
        await client.close()
    nobody = findings[0].reason.code == "consul.unreachable" and settings.address is None
    return [_own(config)] if nobody and settings.embedded == "auto" else findings


def _own(config: Config) -> Finding:
    """Whether the agent could run a Consul of its own, where there is no other."""
    binary = find_binary(os.environ, config.agent.data_dir)
    if binary is None:
        why = because("consul.no_binary", hint="scripts/get-consul")
        return Finding("consul", Level.FAIL, why, because("next.consul"))
    return Finding("consul", Level.OK, because("doctor.consul_own", path=str(binary)))


def _has_own(config: Config) -> bool:
    """Whether this data_dir's Consul is its own, and so begins and ends with the agent."""
    folder = config.agent.data_dir / "consul"
    try:
        choice = json.loads((folder / "choice.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(choice, dict) and choice.get("kind") == "embedded"


def node_of(config: Config, told: str = "") -> str:
    """The node name as the agent uses or would use it; what is made up is not kept."""
    named = told or config.agent.node or _remembered(config, "node")
    return named or dns_safe(os.uname().nodename)


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "subject": finding.subject or None,
        "level": finding.level.value,
        **_said(finding.reason),
        "next": _said(finding.step) if finding.step is not None else None,
    }


def _said(reason: Reason) -> dict[str, Any]:
    return {
        "sentence": views.say(reason),
        "reason": reason.code,
        "reason_params": dict(reason.params),
    }
