"""A log as events: `line` for each line, with a mark to resume at.

`Last-Event-ID` (or `?from=` for the first time, from the `position` of a page) says which line came
last: no line is lost and none comes twice, over rotation and an agent that was started anew. A
caller who cannot keep up with an old stretch is waited for; with what is written now they lose the
oldest and are told.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request

from lictor.core.runtime.answers.log_files import LogFiles
from lictor.web.api.streams import EventStream, Mailbox, event
from lictor.web.auth.gate import Person
from lictor.web.door import Door

_PIECE = 50  # lines between two turns of others
_PATIENCE = 1.0  # seconds that one line waits for a slow caller


def log_stream(
    request: Request,
    person: Person,
    door: Door,
    name: str,
    *,
    lines: int = 0,
    begin: str | None = None,
    search: str = "",
) -> EventStream:
    """Follow a log of that name; with `lines`, begin with so many that are there already."""
    mark = request.headers.get("last-event-id") or begin
    files = LogFiles(door.agent)
    files.named(name)

    async def feed(box: Mailbox) -> None:
        place = mark
        if place is None:
            page: dict[str, Any] = await door.ask(
                "log_page", {"name": name, "lines": lines, "search": search}
            )
            place = page["position"]
            last = len(page["lines"]) - 1
            for number, line in enumerate(page["lines"]):
                # Resuming before the last of them would have to begin with the page again.
                box.put(event("line", {"line": line}, place if number == last else None))
            if not page["lines"]:
                box.put(event("empty", {"why": page["empty"]}, place))
        count = 0
        async for at, line in files.stream(name, mark=place, search=search):
            await box.room(_PATIENCE)
            box.put(event("line", {"line": line}, at))
            count += 1
            if count % _PIECE == 0:
                # However many read a long log from its beginning, others wait for a few of them only.
                async with door.turns:
                    await asyncio.sleep(0)

    return EventStream(request, person, feed)
