"""Start, stop and restart, whichever path they came by: one order, one answer.

The words of the answer are those of the users' older API; `result`, `phase` and `sentence` say what
is so. An order that changes nothing says that, and not that something is being done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from lictor.core.errors import LictorError
from lictor.core.model.reason import because
from lictor.core.model.state import Phase
from lictor.web.api.shapes import RunConfig
from lictor.web.auth.gate import Person
from lictor.web.auth.rights import Right
from lictor.web.door import Door

log = logging.getLogger(__name__)

_DOING = {"start": "starting", "stop": "stopping", "restart": "restarting"}
_DONE = {"start": "started", "stop": "stopped", "restart": "restarted"}
_ALREADY = {"start": "running", "stop": "stopped", "restart": "running"}
_ONE_BY_ONE = 600.0  # seconds that a service may take before the next one's turn

_running: set[asyncio.Task[None]] = set()


def told(verb: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The answer about one service."""
    name, result = str(row["service"]), str(row["result"])
    status, message = _DOING[verb], f"Service {name} is being {_DONE[verb]}"
    if result == "already" and Phase(row["phase"]).seed_word == _ALREADY[verb]:
        status, message = _ALREADY[verb], f"Service {name} is {_ALREADY[verb]} already"
    elif result == "already":
        message = f"Service {name} is to be {_DONE[verb]} already"
    elif result == "held":
        status, message = "held", f"Service {name} is held: {row['sentence']}"
    elif result == "pending":
        message += "; Consul will be told when it is back"
    return {
        "status": status,
        "service": name,
        "message": message,
        "result": result,
        "phase": row["phase"],
        "sentence": row["sentence"],
        "reason": row.get("reason"),
        "reasons": row.get("reasons", []),
    }


async def change(
    door: Door,
    person: Person,
    verb: str,
    names: Iterable[str],
    *,
    config: RunConfig | None = None,
    reason: str = "",
    force: bool = False,
    wait: bool = False,
) -> list[dict[str, Any]]:
    """Give the order for services by name; the right must reach all of them. Raises."""
    names = list(names)
    door.require(person, Right.SERVICES_CHANGE, names)
    args: dict[str, Any] = {"verb": verb, "names": names, "reason": reason, "yes": force}
    if config is not None and config.env:
        person.require(Right.START_ENV)
        args["env"] = dict(config.env)
    if wait:
        args |= {"wait": True, "timeout": _ONE_BY_ONE}
    rows = await door.order("change", args, person)
    return [told(verb, row) for row in rows]


async def one(door: Door, person: Person, verb: str, name: str, **options: Any) -> dict[str, Any]:
    """The same for one name; the instances of a service that has some are in `operations`."""
    rows = await change(door, person, verb, [name], **options)
    if len(rows) == 1:
        return rows[0]
    return {**rows[0], "service": name, "operations": rows}


async def every(door: Door, person: Person, verb: str) -> dict[str, Any]:
    """All services of this host; what is held stays as it is."""
    rows = await door.order("change", {"verb": verb, "names": []}, person)
    return {"status": "processing", "operations": [told(verb, row) for row in rows]}


def one_by_one(
    door: Door, person: Person, verb: str, names: list[str], *, force: bool
) -> dict[str, Any]:
    """Begin with the first and go on when it is there; it goes on when the caller has left."""
    door.require(person, Right.SERVICES_CHANGE, names)

    async def work() -> None:
        for place, name in enumerate(names):
            try:
                rows = await change(door, person, verb, [name], force=force, wait=True)
                failed = next((row["sentence"] for row in rows if row["result"] == "failed"), None)
            except LictorError as error:
                failed = error.message
            if failed is not None:
                left = ", ".join(names[place + 1 :]) or "-"
                why = because("bulk.ended", verb=verb, by=person.name, why=failed, left=left)
                door.agent.record("outcome", name, why, who=person.name, outcome="failed")
                return

    task = asyncio.create_task(work())
    _running.add(task)
    task.add_done_callback(_running.discard)
    return {
        "status": "processing",
        "operations": [
            {"service": name, "status": _DOING[verb] if place == 0 else "queued"}
            for place, name in enumerate(names)
        ],
    }
