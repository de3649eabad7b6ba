"""The composition root: the one place that sees every room and puts the agent together.

Commands call these functions by name, so that none of them imports what the agent is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def run_agent(
    config: str | None,
    detach: bool,  # noqa: FBT001 - the flag of `up -d`
    on_term: str | None = None,
) -> int:
    """`lictor up`: run the agent in the foreground, or start one that outlives this terminal."""
    import gc

    gc.disable()  # until the first services run: nothing that is imported now is garbage
    from lictor.cli.wiring import detached, foreground

    return detached.start(config, on_term) if detach else foreground.run(config, on_term)


def systemd_unit(config: str | None, *, user: bool) -> str:
    """`lictor generate systemd`: the text of a unit for this installation and config.yml."""
    from lictor.cli.wiring import generated

    return generated.systemd_unit(config, user=user)


def consul_policy(config: str | None, *, every_node: bool) -> str:
    """`lictor generate consul`: the ACL policy of this node's agent, and how to make its token."""
    from lictor.cli.wiring import policy

    return policy.consul_policy(config, every_node=every_node)


def compose_file(config: str | None) -> tuple[str, list[str]]:
    """`lictor generate compose`: the text, and the services that are no containers."""
    from lictor.cli.wiring import composed

    return composed.compose_file(config)


def dns_resolvers() -> tuple[str, ...]:
    """The resolvers that `lictor generate dns --for` knows, the one of this host first."""
    from lictor.cli.wiring import forwarding

    usual = forwarding.usual_resolver()
    return (usual, *(other for other in forwarding.RESOLVERS if other != usual))


def dns_forwarding(resolver: str) -> tuple[str, str]:
    """`lictor generate dns`: the text, and why Consul could not be asked where its DNS is."""
    from lictor.cli.wiring import forwarding

    return forwarding.dns_forwarding(resolver)


def catalogue(language: str) -> list[dict[str, Any]]:
    """`lictor add` alone: the services that ship with Lictor."""
    from lictor.cli.wiring import cataloguing

    return cataloguing.rows(language)


def propose(
    template: str, name: str | None, port: int | None, config: str | None, language: str, hint: str
) -> Any:
    """`lictor add TEMPLATE`: the entry, checked and not yet written."""
    from lictor.cli.wiring import cataloguing

    return cataloguing.propose(template, name, port, config, language, hint)


def commit(proposal: Any) -> None:
    """`lictor add TEMPLATE`: write what was proposed."""
    from lictor.cli.wiring import cataloguing

    cataloguing.commit(proposal)


def install(names: tuple[str, ...], config: str | None, told: Any, bar: Any) -> None:
    """`lictor install`: bring what services need; `told(reason)`, `bar(what, share)`."""
    from lictor.cli.wiring import cataloguing

    cataloguing.install_services(names, config, told, bar, bar=bar.live)


def doctor(config: str | None) -> list[dict[str, Any]]:
    """`lictor doctor`: what keeps Lictor from its work."""
    from lictor.cli.wiring import examining

    return examining.doctor(config)


def discover(
    name: str | None,
    tag: str | None,
    dc: str | None,
    near: str | None,
    everybody: bool,  # noqa: FBT001 - the flag of `discover --all`
) -> list[dict[str, Any]]:
    """`lictor discover` without an agent, straight against Consul."""
    from lictor.cli.wiring import discovering

    rows = discovering.discover(name, tag=tag, dc=dc, near=near)
    return rows if everybody else discovering.wears(rows, tag)


def watch_discover(
    name: str | None,
    tag: str | None,
    dc: str | None,
    everybody: bool,  # noqa: FBT001 - as above
    show: Callable[[list[dict[str, Any]], dict[str, Any] | None], None],
) -> None:
    """`lictor discover --watch`: `show(rows, notice)` at first and at each change, for ever."""
    from lictor.cli.wiring import discovering

    def shown(rows: list[dict[str, Any]], notice: dict[str, Any] | None) -> None:
        show(rows if everybody else discovering.wears(rows, tag), notice)

    discovering.watch(name, tag=tag, dc=dc, show=shown)


def nodes(names: list[str]) -> dict[str, Any]:
    """`lictor status --all-nodes` without an agent, straight from Consul."""
    from lictor.cli.wiring import direct_nodes

    return direct_nodes.nodes(names)


def resolve(name: str, tag: str | None, query: bool) -> dict[str, Any]:  # noqa: FBT001 - as above
    """`lictor resolve`: what Consul's DNS answers, and who is left out and why."""
    from lictor.cli.wiring import resolving

    return resolving.resolve(name, tag=tag, query=query)


def register(names: list[str]) -> list[dict[str, Any]]:
    """`lictor register` without an agent: what config.yml defines, as it would be registered."""
    from lictor.cli.wiring import direct

    return direct.register(names)


def unregister(names: list[str]) -> list[dict[str, Any]]:
    """`lictor unregister` without an agent: what this installation left in Consul."""
    from lictor.cli.wiring import direct

    return direct.unregister(names)
