"""`lictor users`, `lictor token`, `lictor dashboard`: who may use the HTTP API, from this host.

A password never stands on a command line, where everybody could read it in the process list: it is
asked for on a terminal, read from stdin with `--password-stdin`, or made up by the agent and printed
once. Nothing about people is decided or kept here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from lictor.cli.client import Row, ask_object, ask_rows
from lictor.cli.options import (
    Duration,
    Localised,
    LocalisedGroup,
    color_option,
    data_command,
    help_if_alone,
    output_option,
)
from lictor.cli.output import Column, emit, show_table, talk, write
from lictor.cli.paint import Cell, clean
from lictor.cli.words import say
from lictor.core.errors import UsageError

ROLES = ("admin", "user", "web", "guest")

#: Seconds: argon2 takes its time on a busy host, and the agent may still be starting.
SILENCE = 60.0

_role = click.option("--role", type=click.Choice(ROLES), help=say("option.role"))
_stdin = click.option("--password-stdin", is_flag=True, help=say("option.password_stdin"))


def _part(group: click.Group, name: str) -> Callable[[Callable[..., int]], click.Command]:
    """A command of a group, with `-o` and `--color`."""

    def declare(function: Callable[..., int]) -> click.Command:
        made = group.command(name, cls=Localised, help=say(f"help.{group.name}.{name}"))
        return made(output_option()(color_option(function)))

    return declare


@click.group("users", cls=LocalisedGroup, help=say("help.users"), invoke_without_command=True)
@click.pass_context
def users(ctx: click.Context) -> int:
    """See `help.users`."""
    return help_if_alone(ctx)


@_part(users, "list")
def list_users(output: str) -> int:
    """See `help.users.list`."""
    rows = ask_rows("users.list", silence=SILENCE)
    emit(rows, output, lambda: _show_users(rows))
    return 0


@_part(users, "create")
@click.argument("name", metavar="USER")
@_role
@_stdin
def create(name: str, role: str | None, password_stdin: bool, output: str) -> int:  # noqa: FBT001 - a flag
    """See `help.users.create`."""
    args = {"name": name, "role": role or "user", **_password(stdin=password_stdin)}
    return _told("users.create", args, output)


@_part(users, "set-role")
@click.argument("name", metavar="USER")
@click.argument("role", type=click.Choice(ROLES))
def set_role(name: str, role: str, output: str) -> int:
    """See `help.users.set-role`."""
    return _told("users.set_role", {"name": name, "role": role}, output)


@_part(users, "passwd")
@click.argument("name", metavar="USER")
@_stdin
def passwd(name: str, password_stdin: bool, output: str) -> int:  # noqa: FBT001 - a flag
    """See `help.users.passwd`."""
    return _told("users.passwd", {"name": name, **_password(stdin=password_stdin)}, output)


@_part(users, "disable")
@click.argument("name", metavar="USER")
def disable(name: str, output: str) -> int:
    """See `help.users.disable`."""
    return _told("users.disable", {"name": name, "disabled": True}, output)


@_part(users, "enable")
@click.argument("name", metavar="USER")
def enable(name: str, output: str) -> int:
    """See `help.users.enable`."""
    return _told("users.disable", {"name": name, "disabled": False}, output)


@_part(users, "delete")
@click.argument("name", metavar="USER")
def delete(name: str, output: str) -> int:
    """See `help.users.delete`."""
    return _told("users.delete", {"name": name}, output)


@click.group("token", cls=LocalisedGroup, help=say("help.token"), invoke_without_command=True)
@click.pass_context
def token(ctx: click.Context) -> int:
    """See `help.token`."""
    return help_if_alone(ctx)


@_part(token, "create")
@click.argument("name", metavar="NAME")
@click.option("--user", metavar="USER", help=say("option.token_user"))
@_role
@click.option("--only", metavar="RIGHT", multiple=True, help=say("option.only"))
@click.option("--lasts", type=Duration(), help=say("option.lasts"))
def create_token(
    name: str,
    user: str | None,
    role: str | None,
    only: tuple[str, ...],
    lasts: float | None,
    output: str,
) -> int:
    """See `help.token.create`. The text is data, alone on stdout, so that a script can keep it."""
    if user is not None and role is not None:
        raise click.UsageError(say("usage.user_and_role"))
    args = {"name": name, "user": user, "role": role, "only": list(only), "lasts": lasts}
    row = ask_object("tokens.create", args, silence=SILENCE)
    emit(row, output, lambda: write(str(row["token"])))
    if output == "table":
        talk(say("token.once"))
    return 0


@_part(token, "list")
def list_tokens(output: str) -> int:
    """See `help.token.list`."""
    rows = ask_rows("tokens.list", silence=SILENCE)
    emit(rows, output, lambda: _show_tokens(rows))
    return 0


@_part(token, "revoke")
@click.argument("name", metavar="NAME")
def revoke(name: str, output: str) -> int:
    """See `help.token.revoke`."""
    row = ask_object("tokens.revoke", {"name": name}, silence=SILENCE)
    emit(row, output, lambda: _show_tokens([row]))
    return 0


@data_command("dashboard")
@click.option("--user", metavar="USER", help=say("option.dashboard_user"))
def dashboard(user: str | None, output: str) -> int:
    """See `help.dashboard`."""
    row = ask_object("dashboard", {"user": user}, silence=SILENCE)
    emit(row, output, lambda: write(str(row["url"])))
    if output == "table":
        talk(say("dashboard.once", user=str(row["user"]), seconds=float(row["expires_in"])))
    return 0


def _told(op: str, args: dict[str, Any], output: str) -> int:
    row = ask_object(op, args, silence=SILENCE)
    emit(row, output, lambda: _show_users([row]))
    if output == "table" and "password" in row:
        talk(say("users.password", password=clean(str(row["password"]))))
    return 0


def _password(*, stdin: bool) -> dict[str, str]:
    """The password that a person or a script gives; nothing, if the agent shall make one up."""
    if stdin:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(say("usage.password_stdin"))
        return {"password": sys.stdin.readline().rstrip("\r\n")}
    if sys.stdin is None or not sys.stdin.isatty():
        return {}
    first = _unseen(say("ask.password"))
    if not first:
        return {}
    if _unseen(say("ask.password_again")) != first:
        raise UsageError(say("usage.passwords_differ"))
    return {"password": first}


def _unseen(question: str) -> str:
    """A line from the terminal at stdin, which does not show it."""
    import termios

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    quiet = [*before]
    quiet[3] &= ~termios.ECHO
    try:
        termios.tcsetattr(terminal, termios.TCSADRAIN, quiet)
        sys.stderr.write(question)
        sys.stderr.flush()
        return sys.stdin.readline().rstrip("\r\n")
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        talk("")


def _show_users(rows: list[Row]) -> None:
    columns = ["column.name", "column.role", "column.state", "column.password_changed"]
    table: list[list[Cell | str]] = [
        [
            Cell(str(row["name"])),
            str(row["role"]),
            say("users.disabled") if row["disabled"] else say("users.enabled"),
            _moment(row["password_changed"]),
        ]
        for row in rows
    ]
    show_table([Column(name) for name in columns], table)


def _show_tokens(rows: list[Row]) -> None:
    if not rows:
        talk(say("token.none"))
        return
    columns = [
        *("column.name", "column.user", "column.role", "column.only"),
        *("column.expires", "column.used"),
    ]
    table: list[list[Cell | str]] = [
        [
            Cell(str(row["name"])),
            str(row["user"] or "-"),
            str(row["role"] or "-"),
            ", ".join(row["only"]) if row["only"] else "-",
            _moment(row["expires"]),
            _moment(row["used"]),
        ]
        for row in rows
    ]
    show_table([Column(name) for name in columns], table)


def _moment(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return "-"
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "minutes")[:16]
