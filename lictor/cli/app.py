"""The tree of commands, by name only.

A command's module is imported when the command is called, so that `lictor status` never pays for
`lictor resolve`. The list of commands in `--help` comes from the texts, without importing any. To
add a command: write it in a module of this folder, name it here, and give it a `help.<name>` text
in each language.
"""

from __future__ import annotations

import importlib

import click

from lictor import __version__
from lictor.cli.options import LocalisedGroup, color_option, help_if_alone
from lictor.cli.words import say

#: Command: module of this package and the name of the click command in it, in the order of help.
COMMANDS = {
    "up": "agent_commands:up",
    "down": "agent_commands:down",
    "status": "status_commands:status",
    "start": "change_commands:start",
    "stop": "change_commands:stop",
    "restart": "change_commands:restart",
    "wait": "change_commands:wait",
    "logs": "log_commands:logs",
    "events": "event_commands:events",
    "top": "top_command:top",
    "gpu": "gpu_command:gpu",
    "health": "status_commands:health",
    "plan": "agent_commands:plan",
    "reload": "agent_commands:reload",
    "confirm": "agent_commands:confirm",
    "set": "param_commands:set_params",
    "unset": "param_commands:unset_params",
    "model": "model_command:model",
    "hold": "hold_commands:hold",
    "release": "hold_commands:release",
    "register": "registry_commands:register",
    "unregister": "registry_commands:unregister",
    "discover": "discover_command:discover",
    "resolve": "registry_commands:resolve",
    "explain": "explain_command:explain",
    "doctor": "doctor_command:doctor",
    "users": "people_commands:users",
    "token": "people_commands:token",
    "dashboard": "people_commands:dashboard",
    "env": "agent_commands:env",
    "add": "catalogue_commands:add",
    "install": "catalogue_commands:install",
    "config": "config_commands:config",
    "generate": "generate_commands:generate",
    "completion": "shell_commands:completion",
    "version": "shell_commands:version",
}

#: Other spellings, which work and are not listed.
ALIASES = {"generate-systemd": "generate_commands:systemd"}


class LazyGroup(LocalisedGroup):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which help shows them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        place = COMMANDS.get(cmd_name) or ALIASES.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        loaded = importlib.import_module(f"lictor.cli.{module}")
        found: click.Command = getattr(loaded, attribute)
        return found

    def summaries(self, ctx: click.Context) -> list[tuple[str, str]]:
        """From the texts alone: help must not import every command."""
        del ctx
        return [(name, say(f"help.{name}")) for name in COMMANDS]


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's callback
    if value and not ctx.resilient_parsing:
        click.echo(f"lictor {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    help=say("help.lictor"),
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help=say("option.version"),
)
@color_option
@click.pass_context
def cli(ctx: click.Context) -> int:
    """Talk to the Lictor agent of this host; see `help.lictor` for the text that people read."""
    return help_if_alone(ctx)
