"""`lictor register|unregister|resolve`; `discover` has a module of its own.

All also work when no agent runs: then the composition root (`cli.wiring`, called by name) asks
Consul directly. `resolve` always asks DNS itself, because its answer is what other programs get.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from lictor.cli.agent_commands import wiring
from lictor.cli.change_commands import show_results
from lictor.cli.client import Row, ask, no_agent, rows_of
from lictor.cli.options import data_command, names_argument
from lictor.cli.output import emit, talk, write
from lictor.cli.paint import clean
from lictor.cli.words import say, sentence
from lictor.core.errors import AgentUnreachable, LictorError, NoSuchService, UsageError
from lictor.core.model.names import BadName, canonical

#: Seconds for questions that the agent passes on to Consul.
CONSUL_SILENCE = 30.0

EXIT_NOT_PASSING = 3

_LABEL_OCTETS = 63  # RFC 1035 §2.3.4


def _registration(name: str) -> Any:
    @data_command(name)
    @names_argument()
    def change(names: tuple[str, ...], output: str) -> int:
        rows = _agent_or_consul(name, {"names": list(names)}, lambda: wiring(name)(list(names)))
        emit(rows, output, lambda: show_results(rows))
        return 1 if any(row.get("result") == "failed" for row in rows) else 0

    return change


register = _registration("register")
unregister = _registration("unregister")


@data_command("resolve")
@click.argument("name")
@click.option("--tag", metavar="TAG", help=say("option.tag"))
@click.option("--query", is_flag=True, help=say("option.query"))
def resolve(name: str, tag: str | None, query: bool, output: str) -> int:  # noqa: FBT001 - a flag
    """See `help.resolve`."""
    if not name.strip():
        raise UsageError(say("error.no_name"))
    asked = ".".join(part for part in (tag, name.strip().rstrip(".")) if part)
    if not all(0 < len(label) <= _LABEL_OCTETS for label in asked.split(".")):
        raise UsageError(say("error.no_dns_name", name=asked))
    found = first_found(
        name,
        lambda spelled: dict(wiring("resolve")(spelled, tag, query)),
        is_found=lambda answer: bool(answer.get("answers") or answer.get("left_out")),
    )
    emit(found, output, lambda: _show_resolved(found))
    if found.get("answers") or (found.get("rcode") == "NOERROR" and _addresses(found)):
        return 0
    if found.get("rcode") == "NXDOMAIN" and not found.get("left_out"):
        raise NoSuchService(say("error.not_in_consul", name=name))
    return EXIT_NOT_PASSING


def _agent_or_consul(
    op: str, args: dict[str, object], directly: Callable[[], list[Row]]
) -> list[Row]:
    try:
        return rows_of(ask(op, args, silence=CONSUL_SILENCE))
    except AgentUnreachable as error:
        if not no_agent(error):
            raise
    talk(say("consul.directly"))
    return directly()


def spellings(name: str) -> list[str]:
    """The canonical name first, then the name as typed: others may register what we never would."""
    try:
        return list(dict.fromkeys((canonical(name), name)))
    except BadName:
        return [name]


def first_found(
    name: str, find: Callable[[str], Any], is_found: Callable[[Any], bool] = bool
) -> Any:
    """What `find` says of the first spelling that exists, else of the canonical one."""
    answers: list[Any] = []
    unknown: LictorError | None = None
    for spelled in spellings(name):
        try:
            answer = find(spelled)
        except LictorError as error:
            if error.exit_code != NoSuchService.exit_code:
                raise
            unknown = unknown or error
        else:
            if is_found(answer):
                return answer
            answers.append(answer)
    if unknown is not None and not answers:
        raise unknown
    return answers[0]


def place(row: Row) -> str:
    """`address:port`, as people write it."""
    address, port = str(row.get("address") or ""), row.get("port")
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port}" if port else host or "-"


def _addresses(found: Row) -> bool:
    """Whether it is the name of a node: that has addresses and no ports."""
    return bool(found.get("a") or found.get("aaaa"))


def _show_resolved(found: Row) -> None:
    asked = {key: clean(found.get(key) or "-") for key in ("question", "server", "rcode")}
    talk(say("resolve.asked", **asked))
    for answer in found.get("answers") or ():
        target = f"  {answer['target']}" if answer.get("target") else ""
        write(clean(f"{place(answer)}{target}"))
    addresses = {kind: ", ".join(map(str, found.get(kind) or ())) for kind in ("a", "aaaa")}
    if any(addresses.values()):
        talk(clean(say("resolve.addresses", **{k: v or "-" for k, v in addresses.items()})))
    left_out = found.get("left_out") or ()
    if found.get("sentence"):
        talk(clean(sentence(found)))
    elif not found.get("answers") and not left_out and not any(addresses.values()):
        talk(say("resolve.nothing"))
    also = found.get("also")
    if isinstance(also, dict):
        given = ", ".join(place(answer) for answer in also.get("answers") or ())
        talk(clean(say("resolve.also", question=also.get("question"), given=given)))
    for row in left_out:
        why = sentence(row) or str(row.get("reason") or "-")
        talk(clean(say("resolve.left_out", id=row.get("id"), place=place(row), why=why)))
