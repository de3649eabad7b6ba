"""The parts that commands share: names, durations, `-o`, `--color`, and help in three languages.

A command module declares its commands with `@command("name")` and takes these types and options.
Nothing here talks to the agent, except completion, which asks it for names and gives up after
0.3 seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lictor.cli.paint import COLOR_KEY
from lictor.cli.words import say
from lictor.core.errors import LictorError
from lictor.core.model.names import BadName, ServiceKey

F = TypeVar("F", bound=Callable[..., Any])

#: Seconds within which shell completion must have the names of the services.
COMPLETION_DEADLINE = 0.3


class Localised(click.Command):
    """A command whose headings and `--help` line speak the person's language."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the usage line."""
        pieces = " ".join(self.collect_usage_pieces(ctx))
        formatter.write_usage(ctx.command_path, pieces, prefix=say("help.usage") + " ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write all options under their heading."""
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        records = [record for p in options if (record := p.get_help_record(ctx))]
        if records:
            with formatter.section(say("help.options")):
                formatter.write_dl(records)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """`-h, --help`."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.help = say("help.help")
        return option


class LocalisedGroup(Localised, click.Group):
    """A group of commands whose headings speak the person's language."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options, then the commands with their one-line texts."""
        super().format_options(ctx, formatter)
        with formatter.section(say("help.commands")):
            formatter.write_dl(self.summaries(ctx))

    def summaries(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Each command and what it is for."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        return [(name, command.help or "") for name, command in found if command is not None]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, or say which one may have been meant."""
        name, names = args[0], self.list_commands(ctx)
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            from difflib import get_close_matches

            near = get_close_matches(name, names, n=1)
            key = "usage.no_command_near" if near else "usage.no_command"
            ctx.fail(say(key, command=name, near="".join(near)))
        return super().resolve_command(ctx, args)


def help_if_alone(ctx: click.Context) -> int:
    """For the callback of a group: named without a command, it shows help, a usage error."""
    if ctx.invoked_subcommand is not None:
        return 0
    click.echo(ctx.get_help(), err=True)
    return 2


class ServiceName(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """`piper`, `piper@a` or an older spelling (`gpt_sovits_server`): the canonical name."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as everything else writes it; a text that is no name is a usage error."""
        try:
            return str(ServiceKey.parse(str(value)))
        except BadName as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[Any]:
        """The names of the services that the agent knows."""
        from click.shell_completion import CompletionItem

        from lictor.cli.client import ask_rows

        try:
            rows = ask_rows("status", silence=COMPLETION_DEADLINE)
        except LictorError:
            return []
        names = {_label(row) for row in rows} | {str(row.get("name")) for row in rows}
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


class Duration(click.ParamType):  # type: ignore[type-arg]
    """`30`, `30s`, `1.5m`, `1h30m`: seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        from lictor.core.config.units import parse_duration

        try:
            return parse_duration(value)
        except ValueError:
            self.fail(say("usage.duration", value=value), param, ctx)


def _label(row: dict[str, Any]) -> str:
    return f"{row.get('name')}@{row['instance']}" if row.get("instance") else str(row.get("name"))


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command; its help is the text `help.<name>`."""
    return click.command(name, cls=Localised, help=say(f"help.{name}"))


def names_argument(*, required: bool = False) -> Callable[[F], F]:
    """`NAME...`, canonical, completed from the agent."""
    return click.argument(
        "names",
        metavar="NAME..." if required else "[NAME]...",
        nargs=-1,
        required=required,
        type=ServiceName(),
    )


def output_option(default: str = "table") -> Callable[[F], F]:
    """`-o table|json|yaml`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml"]),
        default=default,
        help=say("option.output"),
    )


def color_option(function: F) -> F:
    """`--color auto|always|never`, accepted before and after the command's name."""

    def remember(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.meta[COLOR_KEY] = value

    return click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        expose_value=False,
        callback=remember,
        help=say("option.color"),
    )(function)


def data_command(name: str, *, default: str = "table") -> Callable[[Callable[..., Any]], Any]:
    """Declare a command that prints data: with `-o` and `--color`."""

    def declare(function: Callable[..., Any]) -> click.Command:
        return command(name)(output_option(default)(color_option(function)))

    return declare
