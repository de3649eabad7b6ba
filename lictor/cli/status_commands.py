"""`lictor status` and `lictor health`: what is, and why.

They only ask and show. Exit codes: `status NAME` is 3 if a named service does not run, `health` is
3 if a check does not pass; both are 4 for a name that the agent does not know.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from lictor.cli import client
from lictor.cli.client import Row, ask_object, ask_rows
from lictor.cli.options import data_command, names_argument
from lictor.cli.output import (
    Column,
    as_json,
    as_yaml,
    emit,
    rich_table,
    show_fields,
    show_table,
    talk,
    warn,
    write,
)
from lictor.cli.paint import Cell, clean, state, watched
from lictor.cli.words import how_long, say, sentence
from lictor.core.errors import AgentUnreachable, LictorError, NoSuchService
from lictor.core.locales import moment

#: Seconds between two looks of `--watch`.
WATCH_EVERY = 1.0

STATUS_COLUMNS = (
    Column("column.service"),
    Column("column.phase"),
    Column("column.health", spare=True),
    Column("column.address", spare=True),
    Column("column.pid", spare=True),
    Column("column.uptime", spare=True),
    Column("column.cpu", spare=True),
    Column("column.memory", spare=True),
    Column("column.restarts", spare=True),
    Column("column.why"),
)

_DETAILS = (
    "description", "node", "driver", "desired", "by", "why", "until", "health", "address", "pid",
    "container_id", "uptime_s", "restarts", "cpu_percent", "memory_mb", "processes", "threads",
    "fds", "connections", "next_start_s", "last_error", "registered", "in_catalog", "depends_on",
    "command", "checks", "log", "source", "containment", "limits", "notes", "refused",
)  # fmt: skip


@data_command("status")
@names_argument()
@click.option("-v", "--verbose", is_flag=True, help=say("option.verbose"))
@click.option("-w", "--watch", is_flag=True, help=say("option.watch"))
@click.option("--all-nodes", is_flag=True, help=say("option.all_nodes"))
def status(
    names: tuple[str, ...],
    verbose: bool,  # noqa: FBT001 - flags
    watch: bool,  # noqa: FBT001
    all_nodes: bool,  # noqa: FBT001
    output: str,
) -> int:
    """See `help.status`."""
    if all_nodes:
        from lictor.cli.nodes_status import show_all_nodes

        if watch or verbose:
            raise click.UsageError(say("usage.all_nodes_watch"))
        return show_all_nodes(names, output)
    if watch:
        _watch(names, verbose=verbose, output=output)
    rows = _ask(names, verbose=verbose)
    emit(rows, output, lambda: _show(rows, verbose=verbose))
    if output == "table":
        _talk_about_the_rest(verbose=verbose)
    return 3 if names and not all(runs(row) for row in rows) else 0


@data_command("health")
@names_argument()
def health(names: tuple[str, ...], output: str) -> int:
    """See `help.health`."""
    rows = ask_rows("health", {"names": list(names)}, silence=60.0)  # a probe may take its timeout
    columns = [
        Column(f"column.{name}") for name in ("service", "check", "health", "took", "output")
    ]

    def table() -> None:
        if rows:
            show_table(columns, [_health_cells(row) for row in rows])
        else:
            talk(say("health.none"))

    emit(rows, output, table)
    if not rows:
        return 3 if names else 0  # nothing says that it passes
    return 0 if all(row.get("status") == "passing" for row in rows) else 3


def label(row: Row) -> str:
    """`piper` or `piper@a`."""
    name = str(row.get("name") or row.get("service") or "?")
    return f"{name}@{row['instance']}" if row.get("instance") else name


def _ask(names: Sequence[str], *, verbose: bool) -> list[Row]:
    rows = ask_rows("status", {"names": list(names), "verbose": verbose})
    if names and not rows:
        raise NoSuchService(say("error.no_service", names=", ".join(names)))
    return rows


def runs(row: Row) -> bool:
    """Whether it runs, in the sense of the exit code: starting, ready or unhealthy."""
    from lictor.core.model.state import Phase

    try:
        return Phase(str(row.get("phase"))).seed_word == "running"
    except ValueError:
        return False


def _show(rows: list[Row], *, verbose: bool) -> None:
    if not rows:
        talk(say("status.none"))
    elif verbose:
        for index, row in enumerate(rows):
            if index:
                write("")
            _show_details(row)
    else:
        show_table(STATUS_COLUMNS, [_cells(row) for row in rows])


def _cells(row: Row) -> list[Cell | str]:
    return [
        label(row),
        state("phase", row.get("phase")),
        state("health", row.get("health")),
        address_of(row),
        _or_dash(str(row.get("container_id") or "")[:12] or row.get("pid")),
        how_long(_whole(row.get("uptime_s"))),
        _number(row.get("cpu_percent"), "%"),
        _number(row.get("memory_mb"), " MB"),
        _or_dash(row.get("restarts")),
        sentence(row),
    ]


def _show_details(row: Row) -> None:
    look = state("phase", row.get("phase"))
    title = " ".join(part for part in (label(row), str(row.get("display_name") or "")) if part)
    fields = [("field.phase", look.text), ("field.sentence", sentence(row))]
    for key in _DETAILS:
        value = _detail(key, row)
        if value not in (None, "", "-"):
            fields.append((f"field.{key}", str(value)))
    show_fields(Cell(title, look.style), fields)


def _detail(key: str, row: Row) -> str | None:
    value = row.get(key)
    if value is None or value in ("", [], {}):
        return None
    if key == "address":
        return address_of(row)
    if key == "until":
        return moment(float(value)) if isinstance(value, (int, float)) else str(value)
    if key in {"uptime_s", "next_start_s"}:
        return how_long(_whole(value))
    if key == "health":
        return state("health", value).text
    if key == "cpu_percent":
        return _number(value, "%")
    if key == "memory_mb":
        return _number(value, " MB")
    if isinstance(value, bool):
        return say("word.yes" if value else "word.no")
    return _flat(value, command=key == "command")


def _flat(value: Any, *, command: bool = False) -> str:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        if command:
            import shlex

            return shlex.join(value)
        return ", ".join(value)
    if isinstance(value, dict) and value.get("sentence"):
        return sentence(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def address_of(row: Row) -> str:
    """`127.0.0.1:5000`, or a dash."""
    address, port = row.get("address"), row.get("port")
    if port is None:
        return _or_dash(address)
    host = f"[{address}]" if ":" in str(address) else address
    return f"{host or ''}:{port}"


def _number(value: object, unit: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.1f}".removesuffix(".0") + unit
    return "-"


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) else value


def _or_dash(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


def _talk_about_the_rest(*, verbose: bool) -> None:
    """What a person should know besides: who answers, how Consul is, and the agent's warnings."""
    try:
        overview = ask_object("overview")
    except LictorError as error:  # the services were answered for; this is only the margin
        warn(error.message)
        return
    consul = overview.get("consul")
    consul = consul if isinstance(consul, dict) else {}
    if verbose:
        talk("")
        facts = ("node", "version", "pid", "data_dir", "web")
        told = [(name, overview.get(name)) for name in facts]
        told += [(f"consul {name}", consul.get(name)) for name in ("address", "ui", "dns")]
        talk(", ".join(f"{name}: {clean(value)}" for name, value in told if value))
    away = ""
    if consul.get("state") not in {"ok", None}:
        away = sentence(consul) or say("status.consul", state=consul.get("state"))
        warn(away)
    warnings = overview.get("warnings")
    for warning in warnings if isinstance(warnings, list) else []:
        # The agent counts what is wrong with Consul among its warnings.
        if isinstance(warning, dict) and (text := sentence(warning)) != away:
            warn(text)


def _health_cells(row: Row) -> list[Cell | str]:
    took = row.get("took_ms")
    return [
        label(row),
        _or_dash(row.get("check")),
        state("health", row.get("status")),
        f"{took:.0f} ms" if isinstance(took, (int, float)) else "-",
        _or_dash(row.get("output")),
    ]


def _watch(names: Sequence[str], *, verbose: bool, output: str) -> None:
    """Look again and again, until Ctrl-C or a reader that goes away."""
    if output == "table" and watched(sys.stdout):
        _watch_live(names)
    last: object = None
    while True:
        rows = _ask(names, verbose=verbose)
        if output == "json":
            write(as_json(rows, one_line=True))
        elif output == "yaml":
            write("---\n" + as_yaml(rows))
        else:
            gist = [(label(row), *map(row.get, ("phase", "health", "sentence"))) for row in rows]
            if gist != last:
                if last is not None:
                    write("")
                _show(rows, verbose=verbose)
            last = gist
        sys.stdout.flush()
        time.sleep(WATCH_EVERY)


def _watch_live(names: Sequence[str]) -> None:
    """Redraw one table in place; an agent that restarts meanwhile is waited for."""
    from rich.live import Live
    from rich.text import Text

    from lictor.cli.output import rich_console

    view: Any = rich_table(STATUS_COLUMNS, [_cleaned(row) for row in _ask(names, verbose=False)])
    with Live(view, console=rich_console(), auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_EVERY)
            try:
                rows = _ask(names, verbose=False)
                view = rich_table(STATUS_COLUMNS, [_cleaned(row) for row in rows])
            except AgentUnreachable as error:
                if not client.no_agent(error) and error.code != "agent.closed":
                    raise
                view = Text(error.message)
            live.update(view, refresh=True)


def _cleaned(row: Row) -> list[Cell]:
    cells = (cell if isinstance(cell, Cell) else Cell(cell) for cell in _cells(row))
    return [Cell(clean(cell.text), cell.style) for cell in cells]
