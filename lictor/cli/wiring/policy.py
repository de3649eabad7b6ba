"""The ACL policy that this node's agent needs, as text for `consul acl policy create`.

It follows from the config alone, so it can be made before there is a token. The commands stand in
comments: the text is a policy as it is, and can be piped.
"""

from __future__ import annotations

from collections.abc import Sequence

from lictor import __version__
from lictor.cli.wiring.configured import find_config, read_config
from lictor.cli.wiring.examining import node_of
from lictor.core.model.access import Rule
from lictor.core.planning.access import for_everybody, rules_for


def consul_policy(explicit: str | None, *, every_node: bool) -> str:
    """The policy with the commands that make a token of it."""
    config = read_config(find_config(explicit))
    node = node_of(config)
    rules = rules_for(
        node, config.consul.kv_prefix, config.services.values(), every_node=every_node
    )
    return "\n".join([*_heading(node, every_node=every_node), *_lines(rules), *_afterwards()])


def _lines(rules: Sequence[Rule]) -> list[str]:
    room = max(len(rule.hcl) for rule in rules)
    return [f"{rule.hcl:<{room}}  # {rule.purpose}" for rule in rules]


def _heading(node: str, *, every_node: bool) -> list[str]:
    command = f"lictor generate consul{' --all-nodes' * every_node}"
    name = f"lictor-{node}"
    return [
        f"# Consul ACL policy of the Lictor agent on node {node}.",
        f"# Made by lictor {__version__}: {command}",
        "#",
        "# With a token that may change ACLs in CONSUL_HTTP_TOKEN (its policy may be changed later",
        f"# with `consul acl policy update -name {name} -rules -`):",
        f"#   {command} | consul acl policy create -name {name} -rules -",
        f"#   consul acl token create -policy-name {name} -description 'Lictor on {node}'",
        "# Put its SecretID into a file that only the agent's user can read, and name that file:",
        "#   consul: {token_file: /etc/lictor/consul-token}     or CONSUL_HTTP_TOKEN_FILE",
        "# Then `lictor doctor` says whether it is enough.",
        "",
    ]


def _afterwards() -> list[str]:
    rules = "\n".join(f"#     {rule.hcl}" for rule in for_everybody())
    return [
        "",
        "# DNS and the UI ask without a token. To let them see services, the anonymous token needs a",
        "# policy of its own with these two rules (names and addresses of everything become readable):",
        rules,
        "#   consul acl policy create -name lictor-dns -rules -   < a file with the two lines above",
        "#   consul acl token update -id 00000000-0000-0000-0000-000000000002 -merge-policies \\",
        "#     -policy-name lictor-dns",
    ]
