"""`lictor set` and `lictor unset`: the typed parameters that a config lets people choose.

Values are sent as they were typed; the agent knows each parameter's type and refuses what does not
fit, whole, with its reason. Which services run is the matter of `start` and `stop`.
"""

from __future__ import annotations

from typing import Any

import click

from lictor.cli.client import Row, ask_object
from lictor.cli.options import Duration, ServiceName, data_command
from lictor.cli.output import emit, write
from lictor.cli.paint import clean
from lictor.cli.words import say, sentence

#: Seconds for a change that the agent writes to Consul.
WRITE_SILENCE = 30.0


class Assignment(click.ParamType):  # type: ignore[type-arg]
    """`key=value`."""

    name = "assignment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Key and value; the value may be empty and may contain `=`."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(say("usage.assignment", value=value), param, ctx)
        return key, text


class Until(click.ParamType):  # type: ignore[type-arg]
    """A length of time from now (`2h`), the next `18:00`, or a moment (RFC 3339).

    Sent as RFC 3339.
    """

    name = "until"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The moment, with its offset; a moment without one is local time."""
        from datetime import UTC, datetime, time, timedelta

        try:
            clock = time.fromisoformat(str(value)) if ":" in str(value) else None
        except ValueError:
            clock = None
        if clock is not None and clock.tzinfo is None:
            now = datetime.now().astimezone()
            today = datetime.combine(now.date(), clock)
            later = today if today.astimezone() > now else today + timedelta(days=1)
            return later.astimezone().isoformat(timespec="seconds")
        try:
            seconds = Duration().convert(value, param, ctx)
        except click.UsageError:
            try:
                moment = datetime.fromisoformat(str(value))
            except ValueError:
                self.fail(say("usage.until", value=value), param, ctx)
            return moment.astimezone().isoformat(timespec="seconds")
        return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


@data_command("set")
@click.argument("name", type=ServiceName())
@click.argument("assignments", metavar="KEY=VALUE...", nargs=-1, required=True, type=Assignment())
@click.option("--until", type=Until(), help=say("option.until"))
@click.option("--reason", metavar="TEXT", help=say("option.reason"))
def set_params(
    name: str,
    assignments: tuple[tuple[str, str], ...],
    until: str | None,
    reason: str | None,
    output: str,
) -> int:
    """See `help.set`."""
    args: dict[str, object] = {"name": name, "params": dict(assignments)}
    if until is not None:
        args["until"] = until
    if reason is not None:
        args["reason"] = reason
    return _report(ask_object("set", args, silence=WRITE_SILENCE), output)


@data_command("unset")
@click.argument("name", type=ServiceName())
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--reason", metavar="TEXT", help=say("option.reason"))
def unset_params(name: str, keys: tuple[str, ...], reason: str | None, output: str) -> int:
    """See `help.unset`. No key means all of them."""
    args: dict[str, object] = {"name": name, "params": list(keys)}
    if reason is not None:
        args["reason"] = reason
    return _report(ask_object("unset", args, silence=WRITE_SILENCE), output)


def _report(row: Row, output: str) -> int:
    emit(row, output, lambda: write(clean(f"{row.get('service')}: {sentence(row)}")))
    return 0
