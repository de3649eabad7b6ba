"""Which rules a token of Lictor needs on one node, and no others.

One rule for each service name that this host's config defines (never `service_prefix ""` with
write: then one host's token could replace every service of the cluster), this node's own folders in
KV, and reading for what is shown of others. `lictor generate consul` prints exactly these; tests
take each of them away in turn.
"""

from __future__ import annotations

from collections.abc import Iterable

from lictor.core.model.access import Rule
from lictor.core.model.spec import ServiceSpec


def rules_for(
    node: str, prefix: str, services: Iterable[ServiceSpec], *, every_node: bool = False
) -> tuple[Rule, ...]:
    """The rules for the agent of `node`, whose KV folder is `prefix`.

    `every_node`: it may also command the services of other nodes (`lictor start --node`).
    """
    specs = [spec for spec in services if spec.registered]
    groups = sorted({spec.voice_group for spec in specs if spec.voice_group})
    names = sorted({"lictor", *groups, *(spec.key.name for spec in specs)})
    desired = f"{prefix}/desired/"
    folders = [desired] if every_node else [f"{desired}_all/", f"{desired}{node}/"]
    return (
        *(Rule("service", name, "write", "registers it, with its checks") for name in names),
        Rule(
            "service_prefix",
            "",
            "read",
            "`lictor discover` shows the services of others too",
            vital=False,
        ),
        Rule("node_prefix", "", "read", "reads the verdict of Consul's own checks of this node"),
        Rule(
            "agent_prefix", "", "read", "what the local Consul agent holds, its version and its DNS"
        ),
        # `list` reads as well; it is asked for where `acl.enable_key_list_policy` is on.
        Rule(
            "key_prefix", f"{prefix}/", "list", "reads desired and actual state, of other nodes too"
        ),
        *(Rule("key_prefix", folder, "write", "desired state") for folder in folders),
        Rule(
            "key_prefix",
            f"{prefix}/actual/{node}/",
            "write",
            "what really runs here, for other nodes to see",
        ),
        Rule("key", f"{prefix}/nodes/{node}", "write", "one agent for one node", vital=False),
        Rule("session_prefix", "", "write", "one agent for one node", vital=False),
        *(Rule("query", group, "write", "the name of the group in DNS") for group in groups),
    )


def for_everybody() -> tuple[Rule, ...]:
    """What the anonymous token needs, so that DNS and the UI answer without a token."""
    return (
        Rule(
            "service_prefix", "", "read", "DNS and the UI, which ask without a token", vital=False
        ),
        Rule("node_prefix", "", "read", "DNS and the UI, which ask without a token", vital=False),
    )
