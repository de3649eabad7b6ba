"""`lictor generate systemd` (also `generate-systemd`): files for other programs, on stdout.

No agent is asked and nothing is written: what is printed is for a person to look at and to put
where it belongs.
"""

from __future__ import annotations

import importlib

import click

from lictor.cli.options import Localised, LocalisedGroup, help_if_alone
from lictor.cli.output import warn, write
from lictor.cli.words import say


@click.group("generate", cls=LocalisedGroup, help=say("help.generate"), invoke_without_command=True)
@click.pass_context
def generate(ctx: click.Context) -> int:
    """See `help.generate`."""
    return help_if_alone(ctx)


@generate.command("systemd", cls=Localised, help=say("help.generate.systemd"))
@click.option("-c", "--config", metavar="FILE", help=say("option.config"))
@click.option("--user", is_flag=True, help=say("option.user_unit"))
def systemd(config: str | None, user: bool) -> int:  # noqa: FBT001 - a flag
    """See `help.generate.systemd`."""
    wiring = importlib.import_module("lictor.cli.wiring")
    write(wiring.systemd_unit(config, user=user).removesuffix("\n"))
    return 0


@generate.command("consul", cls=Localised, help=say("help.generate.consul"))
@click.option("-c", "--config", metavar="FILE", help=say("option.config"))
@click.option("--all-nodes", is_flag=True, help=say("option.every_node"))
def consul(config: str | None, all_nodes: bool) -> int:  # noqa: FBT001 - a flag
    """See `help.generate.consul`."""
    wiring = importlib.import_module("lictor.cli.wiring")
    write(wiring.consul_policy(config, every_node=all_nodes))
    return 0


@generate.command("compose", cls=Localised, help=say("help.generate.compose"))
@click.option("-c", "--config", metavar="FILE", help=say("option.config"))
def compose(config: str | None) -> int:
    """See `help.generate.compose`."""
    wiring = importlib.import_module("lictor.cli.wiring")
    text, left_out = wiring.compose_file(config)
    write(text.removesuffix("\n"))
    if left_out:
        warn(say("generate.compose_left_out", names=", ".join(left_out)))
    return 0


@generate.command("dns", cls=Localised, help=say("help.generate.dns"))
@click.option(
    "--for",
    "resolver",
    type=click.Choice(["systemd-resolved", "dnsmasq"]),
    help=say("option.resolver"),
)
def dns(resolver: str | None) -> int:
    """See `help.generate.dns`."""
    wiring = importlib.import_module("lictor.cli.wiring")
    text, doubt = wiring.dns_forwarding(resolver or wiring.dns_resolvers()[0])
    write(text.removesuffix("\n"))
    if doubt:
        warn(say("generate.dns_usual", why=doubt))
    return 0
