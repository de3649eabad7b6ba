"""This agent as one of several: what it tells of itself, and whether it is the node's only one.

A name of a node means one agent. Who starts while another agent has the name is told so and ends;
who finds out later (Consul was away at the start, or the lease was lost) goes on supervising, stops
writing to Consul and says so. No service is ever stopped for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lictor import __version__
from lictor.core.errors import AgentExists
from lictor.core.model.reason import because
from lictor.core.probes.host_facts import host_facts
from lictor.core.runtime.gpu import view as gpu_view
from lictor.core.runtime.storage.datadir import DataDir, boot_id
from lictor.core.worded import worded

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent


def identity(datadir: DataDir) -> dict[str, str]:
    """What tells this agent from any other: installation, boot, and the very lock file.

    A copied data_dir has the same installation and another file.
    """
    lock = (datadir.path / "lock").stat()
    return {
        "agent": datadir.agent_id(),
        "boot": boot_id(),
        "lock": f"{lock.st_dev}:{lock.st_ino}",
    }


def facts_of(agent: Agent) -> Callable[[], Mapping[str, Any]]:
    """The document of this node, as it is at the time of asking."""
    fixed = {
        "node": agent.node,
        "version": __version__,
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        **identity(agent.tools.datadir),
        **host_facts(),
    }

    def now() -> Mapping[str, Any]:
        seen = gpu_view.facts(agent.gpus.seen)
        where = {"address": agent.config.agent.advertise, "ui": agent.web_url}
        return {**fixed, **where, **seen}

    return now


def refuse_second(node: str, ours: Mapping[str, str], holder: Mapping[str, Any] | None) -> None:
    """Raise `AgentExists` if `holder` (the document of who has the lease now) is another agent.

    An agent of ours from before a reboot is no other one: its lease is waited for.
    """
    if holder is None:
        return
    same = all(holder.get(name) == value for name, value in ours.items())
    rebooted = holder.get("agent") == ours["agent"] and holder.get("boot") != ours["boot"]
    if same or rebooted:
        return
    copied = holder.get("agent") == ours["agent"]
    in_use = because(
        "node.in_use_copy" if copied else "node.in_use",
        node=node,
        **{name: str(holder.get(name) or "?") for name in ("agent", "host", "pid", "since")},
    )
    raise worded(AgentExists, in_use, hint=because("next.node_name"), code="node.taken")
